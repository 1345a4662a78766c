// Puts setters where arrays have their entries.
// ends: ok, error
function handle() {
    for (let i = 0; i < 20; i++) {
        Object.defineProperty(Array.prototype, i, {
            set() {
                throw 1;
            },
            get: () => 1,
        });
    }
    log("done");
    return { a: 1 };
}
