// Makes code of strings, in every way there is.
// ends: ok
function handle() {
    const made = [eval("1 + 1"), new Function("a", "return a * 2")(21), (0, eval)("typeof globalThis")];
    for (const kind of [function () {}, async function () {}, function* () {}, async function* () {}]) {
        made.push(typeof kind.constructor("return 1"));
    }
    return made;
}
