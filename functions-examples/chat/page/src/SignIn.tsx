import { useState, type FormEvent } from "react";

import * as sessions from "./session";

type How = "login" | "register";

interface Props {
  /** Why the last session ended, if that needs to be said. */
  notice: string | null;
  onSignIn(session: sessions.Session): void;
}

/** One form for both: whoever comes back signs in, whoever is new registers. */
export function SignIn({ notice, onSignIn }: Props) {
  const [busy, setBusy] = useState<How | null>(null);
  const [error, setError] = useState<string | null>(null);

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const button = (event.nativeEvent as SubmitEvent).submitter as HTMLButtonElement | null;
    const how: How = button?.value === "register" ? "register" : "login";
    const form = new FormData(event.currentTarget);

    setBusy(how);
    setError(null);
    try {
      onSignIn(await sessions.open(how, String(form.get("email")).trim(), String(form.get("password"))));
    } catch (error) {
      setError((error as Error).message);
      setBusy(null);
    }
  }

  return (
    <main className="sign-in">
      <form onSubmit={submit} aria-busy={busy !== null}>
        <Logo />
        <h1>Thimble chat</h1>
        <p className="lead">Every message you send is stored by a function that runs on the server.</p>

        {notice && !error && (
          <p className="banner" role="status">
            {notice}
          </p>
        )}
        {error && (
          <p className="banner problem" role="alert">
            {error}
          </p>
        )}

        <label htmlFor="email">Email</label>
        <input id="email" name="email" type="email" autoComplete="username" required autoFocus />
        <label htmlFor="password">Password</label>
        <input id="password" name="password" type="password" autoComplete="current-password" required />

        <div className="buttons">
          <button className="primary" name="how" value="login" disabled={busy !== null}>
            {busy === "login" ? "Signing in…" : "Sign in"}
          </button>
          <button name="how" value="register" disabled={busy !== null}>
            {busy === "register" ? "Registering…" : "Register"}
          </button>
        </div>
        <p className="hint">To talk to yourself, open this page in a second tab and register another address there.</p>
      </form>
    </main>
  );
}

function Logo() {
  return (
    <svg className="logo" viewBox="0 0 48 48" aria-hidden="true">
      <path d="M12 8h24a6 6 0 0 1 6 6v15a6 6 0 0 1-6 6H23l-10 8v-8h-1a6 6 0 0 1-6-6V14a6 6 0 0 1 6-6z" />
      <circle cx="16" cy="21.5" r="2.6" />
      <circle cx="24" cy="21.5" r="2.6" />
      <circle cx="32" cy="21.5" r="2.6" />
    </svg>
  );
}
