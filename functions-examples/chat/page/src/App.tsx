import { useCallback, useState } from "react";

import { Room } from "./Room";
import * as sessions from "./session";
import { SignIn } from "./SignIn";

export function App() {
  const [session, setSession] = useState(sessions.saved);
  const [notice, setNotice] = useState<string | null>(null);

  const signOut = useCallback((why: string | null) => {
    sessions.close();
    setNotice(why);
    setSession(null);
  }, []);

  return session ? <Room session={session} onSignOut={signOut} /> : <SignIn notice={notice} onSignIn={setSession} />;
}
