// Collections, ids and fields with names that mean something to a database.
// ends: ok
function handle() {
    const names = ["", " ", ".", "..", "../x", "a/b", "a\\b", "a'b", 'a"b', "a;drop table documents", "sb_accounts", "sqlite_master", "a\u0000b", "$", "$.a", "*",
        "%", "_", "\ud800", "💥", "__proto__", "constructor", "x".repeat(129), "x".repeat(100000)];
    const seen = names.map((name) => [
        create(name, { a: 1 }).ok,
        list(name).ok,
        getById("fine", name).ok,
        query("fine", [[name, "=", 1]]).ok,
        query("fine", [["a", name, 1]]).ok,
        list("fine", { sortBy: name }).ok,
        update("fine", name, { a: 1 }).ok,
        del(name, name).ok,
    ]);
    return JSON.stringify(seen);
}
