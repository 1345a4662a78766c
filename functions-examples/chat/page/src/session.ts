// Who is signed in. Kept for this tab only, so that two tabs can be two users and a reload stays signed in.

import { explain, newBackend, PUBLIC_KEY } from "./backend";

export interface Session {
  token: string;
  email: string;
  accountId: string;
}

const KEY = `thimble-chat ${PUBLIC_KEY}`;

/** Signs in, or registers first. Throws an error whose message is for the user. */
export async function open(how: "login" | "register", email: string, password: string): Promise<Session> {
  const backend = newBackend();
  const token = await backend[how](email, password);
  if (!token.ok) {
    throw new Error(explain(token.content));
  }
  const me = await backend.me(token.content);
  if (!me.ok) {
    throw new Error(explain(me.content));
  }
  const session = { token: token.content, email: me.content.email, accountId: me.content.accountId };
  sessionStorage.setItem(KEY, JSON.stringify(session));
  return session;
}

/** The session of before the page was loaded again. */
export function saved(): Session | null {
  return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
}

export function close(): void {
  sessionStorage.removeItem(KEY);
}
