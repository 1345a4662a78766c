import { useState, type KeyboardEvent } from "react";

interface Props {
  isConnected: boolean;
  onSend(body: string): void;
}

/** Enter sends, Shift and Enter starts a new line. Without a connection the text stays where it is. */
export function Composer({ isConnected, onSend }: Props) {
  const [text, setText] = useState("");
  const body = text.trim();
  const canSend = isConnected && body !== "";

  function send() {
    if (canSend) {
      onSend(body);
      setText("");
    }
  }

  function onKeyDown(event: KeyboardEvent) {
    // While a character is being composed, Enter only ends that.
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      send();
    }
  }

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        aria-label="Message"
        placeholder="Write a message…"
        rows={1}
        maxLength={4000}
        autoFocus
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={onKeyDown}
      />
      <button className="primary" aria-label="Send" disabled={!canSend}>
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M12 20V5M5.5 11.5 12 5l6.5 6.5" />
        </svg>
      </button>
    </form>
  );
}
