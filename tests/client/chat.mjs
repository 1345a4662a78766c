// The chat of StaticBackend's tutorial with its published JavaScript clients, against a running server:
// two users talk in a channel, and a function on the server stores what they say.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import * as newest from "@staticbackend/js";
import { EventSource } from "eventsource";
import oldest from "sb-1.0.2";

import { asRoot, content, ensureChatFunction, eventually, newEmail, PASSWORD, PUBLIC_KEY, SERVER_URL } from "./server.mjs";

// The clients are written for browsers. Fewer messages than a page of documents, which is all the oldest client can list.
globalThis.EventSource = EventSource;
const MESSAGES = 20;

before(ensureChatFunction);

for (const [version, { Backend }] of [["1.7.0", newest], ["1.0.2", oldest]]) {
  test(`the chat of the tutorial works with client ${version}`, { timeout: 60_000 }, async (t) => {
    const started = new Date();
    const ann = await enter(t, new Backend(PUBLIC_KEY, SERVER_URL), newEmail("ann"));
    const bob = await enter(t, new Backend(PUBLIC_KEY, SERVER_URL), newEmail("bob"));
    const texts = [ann, bob].map((user) => Array.from({ length: MESSAGES }, (_, n) => `${n} from ${user.email} 👋`));

    for (const [n, user] of [ann, bob].entries()) {
      for (const body of texts[n]) {
        const isSent = user.backend.send(user.backend.types.chanIn, JSON.stringify({ from: user.email, body }), "lobby");
        assert.ok(isSent, "the client could not send");
      }
    }

    await t.test("both receive every message once", async () => {
      for (const user of [ann, bob]) {
        await eventually(() => assert.deepEqual(user.received().sort(), texts.flat().sort()));
      }
    });

    await t.test("somebody who joins is announced to both", async () => {
      await eventually(() => assert.ok(ann.seen.filter(({ type }) => type === "joined").length >= 2));
      await eventually(() => assert.ok(bob.seen.some(({ type }) => type === "joined")));
    });

    await t.test("the function stores every message as its sender, for everyone to read", async () => {
      const accounts = new Set();
      for (const [n, sender] of [ann, bob].entries()) {
        for (const reader of [ann, bob]) {
          const documents = await eventually(async () => {
            const query = await reader.backend.query(reader.token, "msgs_774_", [["from", "==", sender.email]]);
            const { results } = content(query);
            assert.deepEqual((results ?? []).map(({ body }) => body).sort(), [...texts[n]].sort());
            return results;
          });
          for (const { sentOn, accountId } of documents) {
            const age = new Date(sentOn).getTime() - started.getTime();
            assert.ok(age > -5_000 && age < 60_000, `sentOn is not the time it was sent: ${sentOn}`);
            accounts.add(`${sender.email} ${accountId}`);
          }
        }
      }
      assert.equal(accounts.size, 2, "the messages of one sender belong to one account");
      assert.equal(new Set([...accounts].map((text) => text.split(" ")[1])).size, 2, "each sender has an account");
    });

    await t.test("each message was one successful run of the function", async () => {
      await eventually(async () => {
        const { history } = content(await asRoot("GET", "/fn/info/new_msg"));
        const texts = history.map(({ output }) => output.join("\n"));
        const runs = history.filter((_, n) => [ann.email, bob.email].some((email) => texts[n].includes(email)));
        assert.equal(runs.length, 2 * MESSAGES);
        assert.deepEqual(runs.filter(({ success }) => !success), []);
      });
    });
  });
}

/** Registers a user who joins the lobby and notes what comes in. */
async function enter(t, backend, email) {
  const token = content(await backend.register(email, PASSWORD));
  const seen = [];
  let lastError = null;
  t.after(() => backend.sseClient?.close());

  await new Promise((resolve, reject) => {
    const patience = setTimeout(() => reject(new Error(`${email} could not join the lobby: ${lastError}`)), 10_000);
    const onAuth = () => backend.send(backend.types.join, "lobby");
    const onMessage = (message) => {
      seen.push(message);
      if (message.type === "error") {
        lastError = message.data;
      }
      if (message.type === "ok" && message.data === "lobby") {
        clearTimeout(patience);
        resolve();
      }
    };
    backend.connect(token, onAuth, onMessage);
  });

  const received = () => {
    const messages = seen.filter(({ type, channel }) => type === "chan_out" && channel === "lobby");
    return messages.map(({ data }) => JSON.parse(data).body);
  };
  return { backend, email, token, seen, received };
}
