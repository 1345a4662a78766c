// The lobby as a component sees it: what to show, and what the user can do.

import { useCallback, useEffect, useReducer, useRef, useState } from "react";

import { explain, LOBBY, MESSAGES, newBackend, sentence } from "./backend";
import { Connection } from "./connection";
import type { Session } from "./session";
import { EMPTY, happen, storedIn, type Entry, type StoredMessage } from "./timeline";

export interface Lobby {
  entries: Entry[];
  state: "connecting" | "connected" | "reconnecting";
  /** Why the messages could not be loaded, if they could not. */
  problem: string | null;
  /** Loads the newest messages again. */
  reload(): Promise<void>;
  hasEarlier: boolean;
  loadEarlier(): Promise<void>;
  send(body: string): void;
  /** Takes a message that failed off the list. */
  discard(key: string): void;
}

const PAGE = 100;

let keys = 0;
const newKey = () => `local-${++keys}`;

export function useLobby(session: Session, onSignedOut: () => void): Lobby {
  const [timeline, dispatch] = useReducer(happen, EMPTY);
  const [state, setState] = useState<Lobby["state"]>("connecting");
  const [problem, setProblem] = useState<string | null>(null);
  const connection = useRef<Connection | null>(null);
  const loadedPage = useRef(0);

  /** The newest messages are page 1. */
  const list = useCallback(
    async (page: number, type: "history" | "earlier") => {
      const result = await newBackend().list(session.token, MESSAGES, { page, size: PAGE, desc: true });
      if (!result.ok) {
        setProblem(`The messages could not be loaded. ${explain(result.content)}`);
        return;
      }
      const { results, total } = result.content as { results: StoredMessage[] | null; total: number };
      setProblem(null);
      loadedPage.current = page;
      dispatch({ type, documents: (results ?? []).toReversed(), hasEarlier: page * PAGE < total });
    },
    [session],
  );

  useEffect(() => {
    const opened = new Connection(session.token, {
      onJoined() {
        setState("connected");
        dispatch({ type: "joined" });
        void list(1, "history");
      },
      onLost() {
        setState("reconnecting");
        dispatch({ type: "disconnected", reason: "The connection was lost." });
      },
      onArrival(own) {
        dispatch({ type: "noticed", key: newKey(), text: own ? `You joined the ${LOBBY}` : "Somebody joined" });
      },
      onMessage(data, own) {
        const message = parse(data);
        if (typeof message?.from === "string" && typeof message.body === "string") {
          dispatch({ type: "received", key: newKey(), from: message.from, body: message.body, own });
        }
      },
      onStored(data) {
        const document = parse(data);
        if (document) {
          dispatch({ type: "stored", document: document as unknown as StoredMessage });
        }
      },
      onRefused(reason) {
        dispatch({ type: "refused", reason: sentence(reason) });
      },
      onSignedOut,
    });
    connection.current = opened;
    return () => opened.close();
  }, [session, list, onSignedOut]);

  return {
    entries: timeline.entries,
    state,
    problem,
    reload: () => list(1, "history"),
    hasEarlier: timeline.hasEarlier,
    // Every new message moves the older ones on by one.
    loadEarlier: () => list(Math.max(loadedPage.current, Math.floor(storedIn(timeline) / PAGE)) + 1, "earlier"),
    send(body) {
      const message = { from: session.email, body };
      dispatch({ type: "sending", key: newKey(), ...message });
      if (!connection.current?.send(JSON.stringify(message))) {
        dispatch({ type: "disconnected", reason: "There is no connection." });
      }
    },
    discard: (key) => dispatch({ type: "discarded", key }),
  };
}

/** An object from JSON, or nothing: a channel carries whatever its members send. */
function parse(json: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
