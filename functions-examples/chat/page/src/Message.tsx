import type { CSSProperties } from "react";

import type { ChatMessage } from "./timeline";

interface Props {
  message: ChatMessage;
  isOwn: boolean;
  /** Whether a block of messages of the same sender begins here. */
  isFirst: boolean;
  onSendAgain(): void;
  onDiscard(): void;
}

export function Message({ message, isOwn, isFirst, onSendAgain, onDiscard }: Props) {
  const { from, body, at, state } = message;
  const hasName = isFirst && !isOwn;
  const classes = ["bubble", isOwn && "own", isFirst && "first", state].filter(Boolean).join(" ");

  return (
    <article className={classes} style={{ "--hue": hue(from) } as CSSProperties}>
      {hasName && (
        <>
          <span className="avatar" aria-hidden="true">
            {[...from][0]?.toUpperCase()}
          </span>
          <h3>{from}</h3>
        </>
      )}
      <div className="body">
        {!hasName && <span className="only-heard">{isOwn ? "You" : from}: </span>}
        {/* Text, never HTML: anybody can write anything. */}
        <p>{body}</p>
        <span className="meta">
          {at && (
            <time dateTime={at.toISOString()} title={at.toLocaleString()}>
              {at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })}
            </time>
          )}
          {isOwn && state === "sending" && <span>Sending…</span>}
          {isOwn && state === "stored" && <Stored />}
        </span>
      </div>
      {state === "failed" && (
        <p className="failure" role="alert">
          Not sent. {message.reason}
          <button onClick={onSendAgain}>Send again</button>
          <button onClick={onDiscard}>Discard</button>
        </p>
      )}
    </article>
  );
}

function Stored() {
  return (
    <svg className="stored" viewBox="0 0 16 16" role="img" aria-label="stored">
      <title>Stored by the function new_msg</title>
      <path d="m3 8.5 3.2 3.2L13 4.8" />
    </svg>
  );
}

/** The same colour for a sender every time. */
function hue(from: string): number {
  let hash = 0;
  for (const character of from) {
    hash = (hash * 31 + character.codePointAt(0)!) % 360;
  }
  return hash;
}
