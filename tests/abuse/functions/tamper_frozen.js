// Freezes everything.
// ends: ok, error
function handle() {
    [globalThis, Object.prototype, Array.prototype, Function.prototype, Promise.prototype].forEach(Object.freeze);
    log("done");
    return { a: 1 };
}
