// The realtime connection to the lobby: opens it, joins, and opens it again whenever it is lost.

import type { Backend, Payload } from "@staticbackend/js";

import { LOBBY, MESSAGES_STORED, newBackend } from "./backend";

export interface Listener {
  /** The lobby is joined: now, and again after every loss. */
  onJoined(): void;
  /** There is no connection; the next one is being tried. */
  onLost(): void;
  /** Somebody, perhaps this connection, came into the lobby. */
  onArrival(own: boolean): void;
  onMessage(data: string, own: boolean): void;
  /** A message was stored; `data` is the document as JSON. */
  onStored(data: string): void;
  /** The server did not take a message. */
  onRefused(reason: string): void;
  /** The server does not accept the session any more. */
  onSignedOut(): void;
}

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
/** A message is answered within milliseconds; after this long without, the stream is dead, whatever its state says. */
const ANSWER_MS = 10_000;

export class Connection {
  readonly #token: string;
  readonly #listener: Listener;
  #backend: Backend | null = null;
  #isJoined = false;
  /** How many messages were sent that have not come back. */
  #unanswered = 0;
  #retryMs = FIRST_RETRY_MS;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #answer: ReturnType<typeof setTimeout> | undefined;

  constructor(token: string, listener: Listener) {
    this.#token = token;
    this.#listener = listener;
    addEventListener("online", this.#replace);
    addEventListener("offline", this.#replace);
    this.#open();
  }

  /** Sends to everybody in the lobby; whether it was possible to try. */
  send(data: string): boolean {
    const backend = this.#backend;
    if (!this.#isJoined || !backend?.send(backend.types.chanIn, data, LOBBY)) {
      return false;
    }
    this.#unanswered += 1;
    clearTimeout(this.#answer);
    this.#answer = setTimeout(this.#replace, ANSWER_MS);
    return true;
  }

  close(): void {
    removeEventListener("online", this.#replace);
    removeEventListener("offline", this.#replace);
    this.#closeStream();
  }

  #open(): void {
    const backend = newBackend();
    this.#backend = backend;
    backend.connect(
      this.#token,
      // Joined before the lobby, so that every message received there is also seen being stored.
      () => backend.send(backend.types.join, MESSAGES_STORED),
      (message) => this.#backend === backend && this.#read(backend, message),
    );
    streamOf(backend)?.addEventListener("error", () => this.#backend === backend && this.#lost(backend));
  }

  #read(backend: Backend, { type, data, channel, sid }: Payload): void {
    const { types } = backend;
    const ownSid: string | null = backend["wsId"];
    const isOwn = sid === ownSid;
    switch (type) {
      case types.ok:
        // What was joined is in the data; the `ok` of a message has none.
        if (data === MESSAGES_STORED) {
          backend.send(types.join, LOBBY);
        } else if (data === LOBBY) {
          this.#isJoined = true;
          this.#retryMs = FIRST_RETRY_MS;
          this.#listener.onJoined();
        }
        break;

      case types.joined:
        if (channel === LOBBY) {
          this.#listener.onArrival(data === ownSid);
        }
        break;

      case types.chanOut:
        if (isOwn) {
          this.#answered();
        }
        this.#listener.onMessage(data, isOwn);
        break;

      case types.dbCreated:
        this.#listener.onStored(data);
        break;

      case types.error:
        if (this.#isJoined) {
          this.#answered();
          this.#listener.onRefused(data);
        } else if (data === "invalid token") {
          this.close();
          this.#listener.onSignedOut();
        } else {
          this.#listener.onLost();
          this.#openLater();
        }
        break;
    }
  }

  #answered(): void {
    this.#unanswered = Math.max(0, this.#unanswered - 1);
    if (this.#unanswered === 0) {
      clearTimeout(this.#answer);
    }
  }

  #lost(backend: Backend): void {
    this.#forget();
    this.#listener.onLost();
    // The browser opens a lost stream again by itself, but not after an answer that is no stream.
    if (streamOf(backend)?.readyState === EventSource.CLOSED) {
      this.#openLater();
    }
  }

  #openLater(): void {
    this.#closeStream();
    this.#retry = setTimeout(() => this.#open(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, LAST_RETRY_MS);
  }

  /** For a stream that is dead, or will be, without saying so. */
  readonly #replace = (): void => {
    this.#closeStream();
    this.#listener.onLost();
    this.#open();
  };

  /** What was known of the connection that is gone. */
  #forget(): void {
    this.#isJoined = false;
    this.#unanswered = 0;
    clearTimeout(this.#answer);
  }

  #closeStream(): void {
    this.#forget();
    clearTimeout(this.#retry);
    if (this.#backend) {
      streamOf(this.#backend)?.close();
    }
    this.#backend = null;
  }
}

/** The client reports errors of its stream to the console only, and has no way to close it. */
function streamOf(backend: Backend): EventSource | null {
  return backend["sseClient"];
}
