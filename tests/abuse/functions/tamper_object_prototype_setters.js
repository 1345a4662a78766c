// Puts setters where answers have their fields.
// ends: ok, error
function handle() {
    for (const name of ["ok", "content", "id", "results", "a"]) {
        Object.defineProperty(Object.prototype, name, {
            set() {
                throw 1;
            },
            get: () => "forged",
            configurable: true,
        });
    }
    const made = create("tampered", { n: 1 });
    if (made.ok !== true) throw new Error("the answer was forged");
    log("done");
    return { a: 1 };
}
