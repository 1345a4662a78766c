// Breaks the species of built-in objects.
// ends: ok, error
function handle() {
    for (const kind of [Array, Promise, RegExp, Map, Set, ArrayBuffer]) {
        Object.defineProperty(kind, Symbol.species, {
            get() {
                throw 1;
            },
        });
    }
    log("done");
    return { a: 1 };
}
