// The server under test, and what the tests in this folder do to it besides calling the published clients.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

/** Its address, without a slash at the end. */
export const SERVER_URL = (process.env.THIMBLE_URL ?? "http://127.0.0.1:8099").replace(/\/$/, "");
/** Public key and root token of the app to work in; those of development mode unless given. */
export const PUBLIC_KEY = process.env.THIMBLE_PK ?? "dev_memory_pk";
const ROOT_TOKEN = process.env.THIMBLE_ROOT_TOKEN ?? "safe-to-use-in-dev-root-token";

export const PASSWORD = "long-enough-1";

/** An address that nobody has registered, however often the tests run against the same server. */
export function newEmail(name) {
  return `${name}-${crypto.randomUUID().slice(0, 8)}@example.com`;
}

/** What a successful call of a client answers; fails, with the server's words, when it was not. */
export function content(result) {
  assert.ok(result.ok, `the call failed: ${String(result.content).trim()}`);
  return result.content;
}

/** The server's words, when a call is expected to fail. */
export function refusal(result) {
  assert.ok(!result.ok, `the call succeeded: ${JSON.stringify(result.content)}`);
  return String(result.content).trim();
}

/** A request with the root token, as an administrator's tool makes it. */
export async function asRoot(method, path, body) {
  const headers = {
    "SB-PUBLIC-KEY": PUBLIC_KEY,
    Authorization: `Bearer ${ROOT_TOKEN}`,
    "Content-Type": "application/json",
  };
  const request = { method, headers, body: body && JSON.stringify(body) };
  const response = await fetch(SERVER_URL + path, request).catch(({ cause }) => {
    throw new Error(`no server answers at ${SERVER_URL} (${cause?.message}): start one, or set THIMBLE_URL`);
  });
  const text = await response.text();
  return { ok: response.ok, status: response.status, content: response.ok ? JSON.parse(text) : text };
}

/** Adds the chat function, unless the server was started with it (`serve --dev --example chat`). */
export async function ensureChatFunction() {
  const info = await asRoot("GET", "/fn/info/new_msg");
  if (info.status === 404) {
    const code = await readFile(new URL("../../functions-examples/chat/fn.js", import.meta.url), "utf8");
    content(await asRoot("POST", "/fn/add", { name: "new_msg", trigger: "chan_out", code }));
  } else {
    content(info);
  }
}

/** Asks again and again until `check` passes, and fails with its last complaint after 20 seconds. */
export async function eventually(check) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > deadline) {
        throw error;
      }
    }
    await setTimeout(25);
  }
}
