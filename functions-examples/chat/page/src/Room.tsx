import { useCallback } from "react";

import { LOBBY } from "./backend";
import { Composer } from "./Composer";
import { Messages } from "./Messages";
import type { Session } from "./session";
import { useLobby } from "./useLobby";

interface Props {
  session: Session;
  onSignOut(why: string | null): void;
}

const STATES = { connecting: "Connecting…", connected: "Connected", reconnecting: "Reconnecting…" };

export function Room({ session, onSignOut }: Props) {
  const onSignedOut = useCallback(() => onSignOut("Your session has ended. Please sign in again."), [onSignOut]);
  const lobby = useLobby(session, onSignedOut);

  return (
    <div className="room">
      <header>
        <div className="title">
          <h1>{LOBBY}</h1>
          <p className={`state ${lobby.state}`} role="status">
            {STATES[lobby.state]}
          </p>
        </div>
        <p className="who" title={`Signed in as ${session.email}`}>
          {session.email}
        </p>
        <button onClick={() => onSignOut(null)}>Sign out</button>
      </header>

      {lobby.state === "reconnecting" && (
        <p className="banner problem" role="alert">
          No connection to the server. Trying again; you can go on writing.
        </p>
      )}
      {lobby.problem && (
        <p className="banner problem" role="alert">
          <button onClick={() => void lobby.reload()}>Try again</button>
          {lobby.problem}
        </p>
      )}

      <main>
        <Messages session={session} lobby={lobby} />
      </main>
      <Composer isConnected={lobby.state === "connected"} onSend={lobby.send} />
    </div>
  );
}
