// The chat page in Chromium, against a running server: two windows talk to each other.
//
//     node browser.mjs [folder for screenshots]

import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { after, before, test } from "node:test";

import { Backend } from "@staticbackend/js";
import { chromium } from "playwright-core";

import { content, ensureChatFunction, newEmail, PASSWORD, PUBLIC_KEY, SERVER_URL } from "./server.mjs";

const PAGE = `/chat/?pk=${encodeURIComponent(PUBLIC_KEY)}`;
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  "--no-sandbox",
  "--headless",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const folder = process.argv[2];
let browser;

before(async () => {
  await ensureChatFunction();
  if (folder) {
    await mkdir(folder, { recursive: true });
  }
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
});
after(() => browser?.close());

test("two people chat, and the history is there after a reload", { timeout: 120_000 }, async (t) => {
  const ann = await openWindow(t, { colorScheme: "light" });
  const bob = await openWindow(t, { colorScheme: "dark" });
  const [annEmail, bobEmail] = [newEmail("ann"), newEmail("bob")];
  await screenshot(ann, "sign-in-light");
  await screenshot(bob, "sign-in-dark");

  await enter(ann, "Register", annEmail);
  await enter(bob, "Register", bobEmail);
  await ann.getByText("Somebody joined").waitFor();
  // Unlike any earlier run of this test against the same server.
  const run = crypto.randomUUID().slice(0, 8);
  const conversation = [
    [ann, `Morning! Is the release out yet? (${run})`],
    [bob, `Out since nine. ${run} went through all checks 🎉`],
    [bob, "The notes are at https://example.com/notes?with=a&rather=long-address-that-has-no-spaces-in-it-at-all-so-that-it-has-to-break-somewhere"],
    [ann, "Great, thank you!"],
    [ann, "First line,\nand a second one."],
    [bob, `<img src=x onerror="document.title='hacked'"><b>not bold</b> ${run}`],
  ];
  for (const [sender, text] of conversation) {
    await say(sender, text);
    for (const window of [ann, bob]) {
      await bubbles(window, text).last().waitFor();
    }
    await bubbles(sender, text).last().locator("css=:scope.own .stored").waitFor();
  }

  await t.test("each sees whose messages are whose", async () => {
    for (const [sender, text] of conversation) {
      const isOwn = async (window) => (await bubbles(window, text).last().getAttribute("class")).includes("own");
      assert.equal(await isOwn(ann), sender === ann, text);
      assert.equal(await isOwn(bob), sender === bob, text);
    }
  });

  await t.test("what somebody writes stays text", async () => {
    for (const window of [ann, bob]) {
      assert.equal(await window.locator(".messages img, .messages b").count(), 0);
      assert.equal(await window.title(), "Chat · Thimble");
    }
  });

  await t.test("a reload shows every message once, and the newest is in view", async () => {
    await ann.reload();
    await connected(ann);
    for (const [, text] of conversation.filter(([, text]) => text.includes(run))) {
      await bubbles(ann, text).last().waitFor();
      assert.equal(await bubbles(ann, text).count(), 1, text);
    }
    await assertInView(ann, conversation.at(-1)[1]);
  });

  await screenshot(ann, "room-light");
  await screenshot(bob, "room-dark");
  for (const [window, scheme] of [[ann, "light"], [bob, "dark"]]) {
    await window.setViewportSize({ width: 360, height: 720 });
    await assertInView(window, conversation.at(-1)[1]);
    const overflow = await window.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `the page is ${overflow} px too wide for a phone`);
    await screenshot(window, `room-narrow-${scheme}`);
  }
});

test("a lost connection is shown, comes back by itself and repeats nothing", { timeout: 120_000 }, async (t) => {
  const line = await openLine(t);
  const ann = await openWindow(t);
  const bob = await openWindow(t, { baseURL: line.url });
  const run = crypto.randomUUID().slice(0, 8);
  const draft = bob.getByLabel("Message", { exact: true });
  await enter(ann, "Register", newEmail("ann"));
  await enter(bob, "Register", newEmail("bob"));
  await say(ann, `before ${run}`);
  await bubbles(bob, `before ${run}`).waitFor();

  await line.cut();
  await bob.getByRole("alert").filter({ hasText: "No connection to the server" }).waitFor();
  await draft.fill(`kept ${run}`);
  await draft.press("Enter");
  await screenshot(bob, "reconnecting");
  await say(ann, `meanwhile ${run}`);
  await bubbles(ann, `meanwhile ${run}`).locator(".stored").waitFor();
  await line.mend();

  await connected(bob);
  await bubbles(bob, `meanwhile ${run}`).waitFor();
  assert.equal(await draft.inputValue(), `kept ${run}`, "what could not be sent is still there");
  await draft.press("Enter");
  await bubbles(bob, `kept ${run}`).locator(".stored").waitFor();
  await bubbles(ann, `kept ${run}`).waitFor();
  for (const window of [ann, bob]) {
    for (const text of [`before ${run}`, `meanwhile ${run}`, `kept ${run}`]) {
      assert.equal(await bubbles(window, text).count(), 1, text);
    }
  }
});

test("who reads further up is not pulled down, and finds what is older", { timeout: 120_000 }, async (t) => {
  const backend = new Backend(PUBLIC_KEY, SERVER_URL);
  const email = newEmail("dora");
  const token = content(await backend.register(email, PASSWORD));
  const run = crypto.randomUUID().slice(0, 8);
  const documents = Array.from({ length: 130 }, (_, n) => ({ from: email, body: `${n} in ${run}`, sentOn: new Date() }));
  content(await backend.createBulk(token, "msgs_774_", documents));
  const ann = await openWindow(t);
  const bob = await openWindow(t);
  await enter(ann, "Register", newEmail("ann"));
  await enter(bob, "Register", newEmail("bob"));
  await assertInView(ann, `129 in ${run}`);
  assert.equal(await bubbles(ann, `0 in ${run}`).count(), 0);

  const earlier = ann.getByRole("button", { name: "Earlier messages" });
  await earlier.scrollIntoViewIfNeeded();
  await say(bob, `news of ${run}`);
  await ann.getByRole("button", { name: "New messages" }).waitFor();
  const before = await bubbles(ann, `31 in ${run}`).boundingBox();
  await earlier.click();
  await bubbles(ann, `0 in ${run}`).waitFor();
  const after = await bubbles(ann, `31 in ${run}`).boundingBox();
  assert.ok(Math.abs(before.y - after.y) < 80, "what is being read stays where it is");
  assert.equal(await bubbles(ann, `31 in ${run}`).count(), 1);

  await ann.getByRole("button", { name: "New messages" }).click();
  await assertInView(ann, `news of ${run}`);
});

test("what goes wrong at signing in is said", { timeout: 60_000 }, async (t) => {
  const window = await openWindow(t);
  const email = newEmail("carol");
  const problem = async (button, password, text) => {
    await fillIn(window, button, email, password);
    await window.getByRole("alert").filter({ hasText: text }).waitFor();
  };

  await problem("Sign in", PASSWORD, "Wrong email or password.");
  await screenshot(window, "sign-in-problem");
  await problem("Register", "short", /password has/i);
  await window.route("**/register", (route) => route.abort());
  await problem("Register", PASSWORD, "The server cannot be reached.");
  await window.unroute("**/register");

  await enter(window, "Register", email);
  await window.getByRole("button", { name: "Sign out" }).click();
  await problem("Register", PASSWORD, "sign in instead");
  await enter(window, "Sign in", email);
});

/** A window of its own, with its own storage. Errors of the page fail the test. */
async function openWindow(t, options = {}) {
  const context = await browser.newContext({ baseURL: SERVER_URL, viewport: { width: 1000, height: 720 }, ...options });
  t.after(() => context.close());
  const window = await context.newPage();
  window.setDefaultTimeout(15_000);
  const errors = [];
  window.on("pageerror", (error) => errors.push(String(error)));
  window.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy|404/.test(message.text())) {
      errors.push(message.text());
    }
  });
  t.after(() => assert.deepEqual(errors, [], "the page has errors"));
  await window.goto(PAGE);
  return window;
}

/** A way to the server that can be cut and mended. */
async function openLine(t) {
  const { hostname, port } = new URL(SERVER_URL);
  const sockets = new Set();
  const server = net.createServer((near) => {
    const far = net.connect(Number(port || 80), hostname);
    for (const [socket, other] of [[near, far], [far, near]]) {
      sockets.add(socket);
      socket.pipe(other);
      socket.on("error", () => {}).on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  const listen = (port) => new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  const cut = () => {
    const closed = new Promise((resolve) => server.close(resolve));
    sockets.forEach((socket) => socket.destroy());
    return closed;
  };
  await listen(0);
  const own = server.address().port;
  t.after(() => server.listening && cut());
  return { url: `http://127.0.0.1:${own}`, cut, mend: () => listen(own) };
}

async function fillIn(window, button, email, password) {
  await window.getByLabel("Email").fill(email);
  await window.getByLabel("Password").fill(password);
  await window.getByRole("button", { name: button }).click();
}

async function enter(window, button, email) {
  await fillIn(window, button, email, PASSWORD);
  await connected(window);
}

async function connected(window) {
  await window.getByRole("status").filter({ hasText: /^Connected$/ }).waitFor();
}

/** Writes a message as a user does: Enter sends it, Shift and Enter breaks the line. */
async function say(window, text) {
  const field = window.getByLabel("Message", { exact: true });
  for (const [n, line] of text.split("\n").entries()) {
    if (n > 0) {
      await field.press("Shift+Enter");
    }
    await field.pressSequentially(line);
  }
  await field.press("Enter");
  assert.equal(await field.inputValue(), "");
}

/** Messages with exactly that text. */
function bubbles(window, text) {
  const body = window.locator(".body > p").and(window.getByText(text, { exact: true }));
  return window.locator("article").filter({ has: body });
}

async function assertInView(window, text) {
  const last = bubbles(window, text).last();
  await window.waitForFunction(
    (element) => element.getBoundingClientRect().bottom <= document.querySelector(".messages").getBoundingClientRect().bottom,
    await last.elementHandle(),
  );
}

async function screenshot(window, name) {
  if (folder) {
    await window.screenshot({ path: path.join(folder, `${name}.png`) });
  }
}
