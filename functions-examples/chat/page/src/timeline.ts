// What the lobby shows, oldest first, as a reducer without side effects.
//
// A message is seen up to three times: when this page sends it, when everybody receives it (`chan_out`), and when the
// function has stored it (`db_created`, or the history). Only the document has an id, so the first two are matched by
// sender and text; from then on the id tells messages apart, also after a reconnect.

export interface ChatMessage {
  kind: "message";
  key: string;
  from: string;
  body: string;
  /** When it was stored, or else received; unknown for a document without a date. */
  at: Date | null;
  /** `sending` and `failed` are messages of this page that have not come back from the server. */
  state: "sending" | "failed" | "received" | "stored";
  /** Why it failed. */
  reason?: string;
  /** Id of the document, once there is one. */
  id?: string;
  /** Account the document belongs to: who really sent it, whatever `from` claims. */
  accountId?: string;
  /** Which of this page's joins it was received after. */
  join: number;
}

/** Something that happened, other than a message. */
export interface Notice {
  kind: "notice";
  key: string;
  text: string;
  /** How often in a row. */
  times: number;
  join: number;
}

export type Entry = ChatMessage | Notice;

/** A document as it comes from the server. Anybody may have written anything into it. */
export interface StoredMessage {
  id: string;
  accountId: string;
  from?: unknown;
  body?: unknown;
  sentOn?: unknown;
}

export interface Timeline {
  entries: Entry[];
  /** Counts the joins of the lobby. What was received before the last one is replaced by the history. */
  join: number;
  /** Whether the server has older messages. */
  hasEarlier: boolean;
}

export type Happening =
  | { type: "sending"; key: string; from: string; body: string }
  | { type: "received"; key: string; from: string; body: string; own: boolean }
  | { type: "stored"; document: StoredMessage }
  /** The server refused a message. It does not say which; most likely the oldest that is not back. */
  | { type: "refused"; reason: string }
  | { type: "disconnected"; reason: string }
  | { type: "discarded"; key: string }
  | { type: "noticed"; key: string; text: string }
  | { type: "joined" }
  | { type: "history"; documents: StoredMessage[]; hasEarlier: boolean }
  | { type: "earlier"; documents: StoredMessage[]; hasEarlier: boolean };

export const EMPTY: Timeline = { entries: [], join: 0, hasEarlier: false };

export function happen(timeline: Timeline, event: Happening): Timeline {
  const { entries, join } = timeline;
  const seenAs = (text: { from: string; body: string }, state: ChatMessage["state"]) =>
    entries.filter((entry) => isIn(entry, state)).find((entry) => says(entry, text));

  switch (event.type) {
    case "sending": {
      const { key, from, body } = event;
      const message: ChatMessage = { kind: "message", key, from, body, at: new Date(), state: "sending", join };
      return { ...timeline, entries: [...entries, message] };
    }

    case "received": {
      const { from, body } = event;
      const sent = event.own ? seenAs(event, "sending") ?? seenAs(event, "failed") : undefined;
      const key = sent?.key ?? event.key;
      const message: ChatMessage = { kind: "message", key, from, body, at: new Date(), state: "received", join };
      // Also its own message goes to the end: that is where everybody else sees it.
      const received = { ...timeline, entries: [...entries.filter((entry) => entry !== sent), message] };
      // It had not failed after all, so what was refused was another one.
      return sent?.reason ? happen(received, { type: "refused", reason: sent.reason }) : received;
    }

    case "stored": {
      const stored = message(event.document, join);
      if (!stored) {
        return timeline;
      }
      const isSame = (entry: Entry) => entry.kind === "message" && entry.id === stored.id;
      const received = seenAs(stored, "received");
      if (!received) {
        return entries.some(isSame) ? timeline : { ...timeline, entries: [...entries, stored] };
      }
      const others = entries.filter((entry) => !isSame(entry));
      const settled = { ...stored, key: received.key };
      return { ...timeline, entries: others.map((entry) => (entry === received ? settled : entry)) };
    }

    case "refused": {
      const first = entries.find((entry) => isIn(entry, "sending"));
      return fail(timeline, event.reason, (message) => message === first);
    }

    case "disconnected":
      return fail(timeline, event.reason, () => true);

    case "discarded":
      return { ...timeline, entries: entries.filter((entry) => entry.key !== event.key) };

    case "noticed": {
      const { key, text } = event;
      const last = entries.at(-1);
      if (last?.kind === "notice" && last.text === text) {
        return { ...timeline, entries: [...entries.slice(0, -1), { ...last, times: last.times + 1 }] };
      }
      return { ...timeline, entries: [...entries, { kind: "notice", key, text, times: 1, join }] };
    }

    case "joined":
      return { ...timeline, join: join + 1 };

    case "history": {
      const stored = messages(event.documents, join);
      const known = ids(entries);
      const unknown = stored.filter(({ id }) => !known.has(id));
      const rest = entries.filter((entry) => {
        if (!isUnsettled(entry)) {
          return entry.join === join;
        }
        // It seemed lost with the connection, and may have been stored all the same.
        const index = unknown.findIndex((message) => says(message, entry));
        return index < 0 || unknown.splice(index, 1).length === 0;
      });
      const shown = ids(rest);
      return {
        ...timeline,
        entries: [...stored.filter(({ id }) => !shown.has(id)), ...rest],
        hasEarlier: event.hasEarlier,
      };
    }

    case "earlier": {
      const shown = ids(entries);
      const older = messages(event.documents, join).filter(({ id }) => !shown.has(id));
      return { ...timeline, entries: [...older, ...entries], hasEarlier: event.hasEarlier };
    }
  }
}

/** How many stored messages are shown. */
export function storedIn(timeline: Timeline): number {
  return ids(timeline.entries).size;
}

function fail(timeline: Timeline, reason: string, which: (message: ChatMessage) => boolean): Timeline {
  const entries = timeline.entries.map((entry): Entry => {
    return isIn(entry, "sending") && which(entry) ? { ...entry, state: "failed", reason } : entry;
  });
  return { ...timeline, entries };
}

function messages(documents: StoredMessage[], join: number): ChatMessage[] {
  return documents.map((document) => message(document, join)).filter((message) => message !== null);
}

function message({ id, accountId, from, body, sentOn }: StoredMessage, join: number): ChatMessage | null {
  if (typeof body !== "string") {
    return null;
  }
  const date = new Date(String(sentOn));
  return {
    kind: "message",
    key: id,
    from: typeof from === "string" ? from : "unknown",
    body,
    at: Number.isNaN(date.getTime()) ? null : date,
    state: "stored",
    id,
    accountId,
    join,
  };
}

function isIn(entry: Entry, ...states: ChatMessage["state"][]): entry is ChatMessage {
  return entry.kind === "message" && states.includes(entry.state);
}

function isUnsettled(entry: Entry): entry is ChatMessage {
  return isIn(entry, "sending", "failed");
}

function says(message: ChatMessage, other: { from: string; body: string }): boolean {
  return message.from === other.from && message.body === other.body;
}

function ids(entries: Entry[]): Set<string | undefined> {
  return new Set(entries.flatMap((entry) => (entry.kind === "message" && entry.id ? [entry.id] : [])));
}
