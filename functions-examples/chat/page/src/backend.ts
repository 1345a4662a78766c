// The server this page came from, and what the page uses there.

import { Backend } from "@staticbackend/js";

/** The channel everybody is in. */
export const LOBBY = "lobby";

/** The collection that the function `new_msg` keeps the messages in. */
export const MESSAGES = "msgs_774_";

/** Says when a document of that collection was created. */
export const MESSAGES_STORED = `db-${MESSAGES}`;

/** Which app of the server this is: the development app, unless the address ends in `?pk=…`. */
export const PUBLIC_KEY = new URLSearchParams(location.search).get("pk") || "dev_memory_pk";

/** A client of the server. It holds one realtime connection, so every connection needs a client of its own. */
export function newBackend(): Backend {
  return new Backend(PUBLIC_KEY, location.origin);
}

/** What the `content` of an unsuccessful call means, as a sentence for the user. */
export function explain(content: unknown): string {
  if (typeof content !== "string") {
    // The client passes on whatever was thrown: by `fetch` without a connection, or by the parser.
    return content instanceof SyntaxError
      ? "The server's answer makes no sense to this page. Is this address a Thimble server?"
      : "The server cannot be reached. Check that it is running, then try again.";
  }
  const text = content.trim();
  if (text === "invalid email/password") {
    return "Wrong email or password.";
  }
  if (text === "invalid email") {
    return "This email address cannot be registered. If it is yours already, sign in instead.";
  }
  if (text.includes("public key")) {
    return `The server has no app with the public key “${PUBLIC_KEY}”. Check the “?pk=” in the address.`;
  }
  return text ? sentence(text) : "The server refused without saying why.";
}

/** Servers write errors in lower case and without a full stop. */
export function sentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}
