import { useEffect, useLayoutEffect, useRef, useState } from "react";

import { Message } from "./Message";
import type { Session } from "./session";
import type { ChatMessage, Entry } from "./timeline";
import type { Lobby } from "./useLobby";

interface Props {
  session: Session;
  lobby: Lobby;
}

/** Messages that follow each other this closely are shown as one block. */
const BLOCK_MS = 5 * 60_000;
/** This close to the end counts as reading the newest message. */
const NEAR_PX = 48;

/** The list, which follows the newest message unless the user reads further up. */
export function Messages({ session, lobby }: Props) {
  const { entries } = lobby;
  const list = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const shown = useRef<{ height: number; first?: string; last?: string }>({ height: 0 });
  const [hasUnseen, setUnseen] = useState(false);

  useLayoutEffect(() => {
    const { current: box } = list;
    if (!box) {
      return;
    }
    const before = shown.current;
    const first = entries[0]?.key;
    const last = entries.at(-1);
    const isNew = last !== undefined && last.key !== before.last;
    if (follows.current || (isNew && last.kind === "message" && last.state === "sending")) {
      box.scrollTop = box.scrollHeight;
    } else if (isNew) {
      setUnseen(true);
    } else if (first !== before.first) {
      // Earlier messages came in above: stay at the one being read.
      box.scrollTop += box.scrollHeight - before.height;
    }
    shown.current = { height: box.scrollHeight, first, last: last?.key };
  }, [entries]);

  useEffect(() => {
    const { current: box } = list;
    const observer = new ResizeObserver(() => {
      if (box && follows.current) {
        box.scrollTop = box.scrollHeight;
      }
    });
    if (box) {
      observer.observe(box);
    }
    return () => observer.disconnect();
  }, []);

  function onScroll() {
    const { current: box } = list;
    if (box) {
      follows.current = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
      if (follows.current) {
        setUnseen(false);
      }
    }
  }

  return (
    <div className="messages" ref={list} onScroll={onScroll} role="log" aria-label="Messages" tabIndex={0}>
      {lobby.hasEarlier && (
        <button className="earlier" onClick={() => void lobby.loadEarlier()}>
          Earlier messages
        </button>
      )}
      {entries.length === 0 && lobby.state === "connected" && !lobby.problem && (
        <p className="empty">Nothing here yet. Say hello!</p>
      )}
      <ol>
        {entries.map((entry, index) => {
          const before = entries[index - 1];
          const day = entry.kind === "message" ? newDay(entry, entries, index) : null;
          return (
            <li key={entry.key} className={entry.kind}>
              {day && <h2>{day}</h2>}
              {entry.kind === "notice" ? (
                <p>
                  {entry.text}
                  {entry.times > 1 && ` · ${entry.times} times`}
                </p>
              ) : (
                <Message
                  message={entry}
                  isOwn={isFrom(entry, session)}
                  isFirst={day !== null || !isSameBlock(before, entry)}
                  onSendAgain={() => {
                    lobby.discard(entry.key);
                    lobby.send(entry.body);
                  }}
                  onDiscard={() => lobby.discard(entry.key)}
                />
              )}
            </li>
          );
        })}
      </ol>
      {hasUnseen && (
        <button
          className="newest"
          onClick={() => list.current?.scrollTo({ top: list.current.scrollHeight, behavior: "smooth" })}
        >
          New messages ↓
        </button>
      )}
    </div>
  );
}

/** A stored message also has to belong to the account, because anybody can claim to be anybody. */
function isFrom({ from, accountId }: ChatMessage, session: Session): boolean {
  return from === session.email && (accountId ?? session.accountId) === session.accountId;
}

function isSameBlock(before: Entry | undefined, message: ChatMessage): boolean {
  return (
    before?.kind === "message" &&
    before.from === message.from &&
    (before.accountId ?? message.accountId) === (message.accountId ?? before.accountId) &&
    before.at !== null &&
    message.at !== null &&
    message.at.getTime() - before.at.getTime() < BLOCK_MS
  );
}

/** The heading for a message that is the first of its day. */
function newDay({ at }: ChatMessage, entries: Entry[], index: number): string | null {
  if (!at) {
    return null;
  }
  const before = entries.slice(0, index).findLast((entry) => entry.kind === "message");
  if (before?.at?.toDateString() === at.toDateString()) {
    return null;
  }
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (at.toDateString() === today.toDateString()) {
    return "Today";
  }
  if (at.toDateString() === yesterday.toDateString()) {
    return "Yesterday";
  }
  return at.toLocaleDateString(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
}
