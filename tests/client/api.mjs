// Every call of the published JavaScript client 1.7.0 that the server answers, against a running server.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { Backend } from "@staticbackend/js";

import { asRoot, content, newEmail, PASSWORD, PUBLIC_KEY, refusal, SERVER_URL } from "./server.mjs";

const backend = new Backend(PUBLIC_KEY, SERVER_URL);
const email = newEmail("carol");
const nowhere = "00000000-0000-4000-8000-000000000000";
let token;

/** A collection that no other test uses. */
const newCollection = (permissions = "") => `tasks_${crypto.randomUUID().slice(0, 8)}${permissions}`;

const titles = (page) => (page.results ?? []).map(({ title }) => title);

before(async () => {
  token = content(await backend.register(email, PASSWORD));
});

describe("users", () => {
  test("register answers a session, and an address can be registered once", async () => {
    assert.equal(typeof token, "string");
    assert.equal(refusal(await backend.register(email.toUpperCase(), PASSWORD)), "invalid email");
  });

  test("login answers a session for the right password only", async () => {
    const session = content(await backend.login(email.toUpperCase(), PASSWORD));

    assert.equal(content(await backend.me(session)).email, email);
    assert.equal(refusal(await backend.login(email, "another-one")), "invalid email/password");
    assert.equal(refusal(await backend.login(newEmail("nobody"), PASSWORD)), "invalid email/password");
  });

  test("me says who one is, and refuses a forged session", async () => {
    const me = content(await backend.me(token));

    assert.equal(me.email, email);
    assert.equal(me.role, 50);
    assert.ok(me.accountId);
    assert.ok(me.id);
    assert.equal(me.userId, me.id);
    assert.match(refusal(await backend.me(`${token}x`)), /could not verify your authentication token/);
    assert.match(refusal(await backend.me("")), /missing authorization/);
  });
});

describe("documents", () => {
  test("create answers the document, and getById finds it again", async () => {
    const collection = newCollection();
    const values = { title: "☕ & <b>", done: false, effort: 1.5, tags: ["a", null], nested: { deep: { er: true } } };

    const created = content(await backend.create(token, collection, { ...values, id: "mine", accountId: "mine" }));

    const { id, accountId, ...rest } = created;
    assert.deepEqual(rest, values);
    assert.notEqual(id, "mine");
    assert.equal(accountId, content(await backend.me(token)).accountId);
    assert.deepEqual(content(await backend.getById(token, collection, id)), created);
    refusal(await backend.getById(token, collection, nowhere));
  });

  test("list goes through the documents by page, oldest or newest first", async () => {
    const collection = newCollection();
    for (let n = 1; n <= 7; n++) {
      content(await backend.create(token, collection, { title: `t${n}` }));
    }

    const all = content(await backend.list(token, collection));
    const second = content(await backend.list(token, collection, { page: 2, size: 3 }));
    const last = content(await backend.list(token, collection, { page: 3, size: 3, desc: true }));
    const beyond = content(await backend.list(token, collection, { page: 9, size: 3 }));

    assert.deepEqual(titles(all), ["t1", "t2", "t3", "t4", "t5", "t6", "t7"]);
    assert.deepEqual({ ...all, results: 0 }, { page: 1, size: 25, total: 7, results: 0 });
    assert.deepEqual(titles(second), ["t4", "t5", "t6"]);
    assert.deepEqual({ ...second, results: 0 }, { page: 2, size: 3, total: 7, results: 0 });
    assert.deepEqual(titles(last), ["t1"]);
    assert.deepEqual(titles(beyond), []);
    assert.equal(beyond.total, 7);
  });

  test("an unknown collection is an empty page", async () => {
    const page = content(await backend.list(token, newCollection()));

    assert.equal(page.total, 0);
    assert.equal(page.results, null);
  });

  test("update merges at the top level and cannot change whose document it is", async () => {
    const collection = newCollection();
    const created = content(await backend.create(token, collection, { title: "a", nested: { x: 1, y: 2 }, keep: 1 }));

    const changes = { title: "b", nested: { x: 3 }, id: nowhere, accountId: nowhere };
    const updated = content(await backend.update(token, collection, created.id, changes));

    assert.deepEqual(updated, { ...created, title: "b", nested: { x: 3 } });
    assert.deepEqual(content(await backend.getById(token, collection, created.id)), updated);
    refusal(await backend.update(token, collection, nowhere, { title: "c" }));
  });

  test("delete answers how many it deleted", async () => {
    const collection = newCollection();
    const { id } = content(await backend.create(token, collection, { title: "a" }));

    assert.equal(content(await backend.delete(token, collection, id)), 1);
    refusal(await backend.getById(token, collection, id));
    assert.equal(content(await backend.list(token, collection)).total, 0);
  });

  test("increase adds to a number", async () => {
    const collection = newCollection();
    const { id } = content(await backend.create(token, collection, { count: 1, title: "a" }));

    assert.equal(content(await backend.increase(token, collection, id, "count", 4)), true);
    content(await backend.increase(token, collection, id, "count", -2));

    assert.equal(content(await backend.getById(token, collection, id)).count, 3);
    refusal(await backend.increase(token, collection, id, "title", 1));
  });

  test("newId answers a new id every time", async () => {
    const [one, two] = [content(await backend.newId(token)), content(await backend.newId(token))];

    assert.ok(one.length > 10);
    assert.notEqual(one, two);
  });
});

describe("many documents at once", () => {
  const collection = newCollection();
  const task = (title, effort, done) => ({ title, effort, done, tags: [title, "task"], owner: { name: `${title}!` } });

  before(async () => {
    const tasks = [task("a", 4, true), task("b", 10, false), task("c", 7, true), task("d", 10.5, false)];
    assert.equal(content(await backend.createBulk(token, collection, tasks)), true);
  });

  for (const [clauses, expected] of [
    [[["done", "==", true]], ["a", "c"]],
    [[["title", "!=", "a"]], ["b", "c", "d"]],
    [[["effort", ">", 4]], ["b", "c", "d"]],
    [[["effort", ">=", 10]], ["b", "d"]],
    [[["effort", "<", 10]], ["a", "c"]],
    [[["effort", "<=", 10]], ["a", "b", "c"]],
    [[["title", "in", ["a", "d", "z"]]], ["a", "d"]],
    [[["title", "!in", ["a", "d", "z"]]], ["b", "c"]],
    [[["tags", "in", "b"]], ["b"]],
    [[["owner.name", "==", "c!"]], ["c"]],
    [[["effort", ">", 4], ["effort", "<", 10.5], ["done", "==", false]], ["b"]],
    [[["title", "==", "x' OR '1'='1"]], []],
    [[["effort", "==", "10"]], []],
  ]) {
    test(`query ${JSON.stringify(clauses)}`, async () => {
      const page = content(await backend.query(token, collection, clauses));

      assert.deepEqual(titles(page), expected);
      assert.equal(page.total, expected.length);
      assert.deepEqual(content(await backend.count(token, collection, clauses)), { count: expected.length });
    });
  }

  test("query goes by page too", async () => {
    const page = content(await backend.query(token, collection, [["effort", ">", 1]], { page: 2, size: 3, desc: true }));

    assert.deepEqual(titles(page), ["a"]);
    assert.equal(page.total, 4);
  });

  test("query names the clause that is wrong", async () => {
    const clauses = [["title", "==", "a"], ["title", "~", "a"]];

    assert.match(refusal(await backend.query(token, collection, clauses)), /\b2\b.*operator.*~.*not supported/);
    assert.match(refusal(await backend.query(token, collection, [["title"]])), /\b1\b.*3 parameters/);
  });

  test("count without clauses counts all", async () => {
    assert.deepEqual(content(await backend.count(token, collection)), { count: 4 });
  });

  test("getByIds answers the documents in the order they were asked for", async () => {
    const { results } = content(await backend.list(token, collection));
    const ids = [results[2].id, results[0].id];

    const found = content(await backend.getByIds(token, collection, ids));

    assert.deepEqual(found.map(({ id }) => id), ids);
  });

  test("updateBulk changes what matches and keeps the rest of each document", async () => {
    const own = newCollection();
    content(await backend.createBulk(token, own, [task("a", 1, true), task("b", 2, false), task("c", 3, false)]));

    const changed = await backend.updateBulk(token, own, { update: { done: true }, clauses: [["done", "==", false]] });

    assert.equal(content(changed), 2);
    const { results } = content(await backend.list(token, own));
    assert.deepEqual(results.map(({ done, effort }) => [done, effort]), [[true, 1], [true, 2], [true, 3]]);
  });

  test("deleteBulk deletes what matches", async () => {
    const own = newCollection();
    content(await backend.createBulk(token, own, [{ title: "~~>" }, { title: "~~>" }, { title: "other" }]));
    const clauses = [["title", "==", "~~>"]];
    // The client puts base64 into the address as it is, and a plus there stands for a space.
    assert.match(btoa(JSON.stringify(clauses)), /\+/);

    assert.equal(content(await backend.deleteBulk(token, own, clauses)), 2);
    assert.deepEqual(titles(content(await backend.list(token, own))), ["other"]);
  });
});

describe("permissions", () => {
  test("the name of a collection says who may read and write", async () => {
    const stranger = content(await backend.register(newEmail("stranger"), PASSWORD));
    const own = newCollection();
    const open = newCollection("_774_");
    const mine = content(await backend.create(token, own, { title: "mine" }));
    const shown = content(await backend.create(token, open, { title: "shown" }));

    refusal(await backend.getById(stranger, own, mine.id));
    assert.equal(content(await backend.list(stranger, own)).total, 0);
    assert.deepEqual(content(await backend.getById(stranger, open, shown.id)), shown);
    refusal(await backend.update(stranger, open, shown.id, { title: "changed" }));
    assert.equal(content(await backend.getById(token, open, shown.id)).title, "shown");
  });
});

describe("functions", () => {
  const name = `greet-${crypto.randomUUID().slice(0, 8)}`;
  const code = `
    function handle(body) {
      log("greeting", body.name);
      if (body.name === "nobody") throw new Error("nobody is here");
      if (body.name === "quiet") return;
      const res = create("greetings", { name: body.name });
      return { greeting: \`Hello, \${body.name}!\`, id: res.content.id };
    }`;

  before(async () => content(await asRoot("POST", "/fn/add", { name, trigger: "web", code })));

  test("execFunction runs a function as the caller and answers what it returns", async () => {
    const { greeting, id } = content(await backend.execFunction(token, name, { name: "Zoë" }));

    assert.equal(greeting, "Hello, Zoë!");
    assert.equal(content(await backend.getById(token, "greetings", id)).name, "Zoë");
  });

  test("execFunction answers true when the function returns nothing", async () => {
    assert.equal(content(await backend.execFunction(token, name, { name: "quiet" })), true);
  });

  test("execFunction answers what the function throws", async () => {
    assert.match(refusal(await backend.execFunction(token, name, { name: "nobody" })), /nobody is here/);
    refusal(await backend.execFunction(token, "no-such-function", {}));
  });

  test("what ran is in the history", async () => {
    const { history } = content(await asRoot("GET", `/fn/info/${name}`));

    const outcomes = history.map(({ success }) => success).sort();
    assert.deepEqual(outcomes, [false, true, true]);
  });
});
