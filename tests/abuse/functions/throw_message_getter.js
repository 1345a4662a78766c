// Throws an error whose message throws.
// ends: error
function handle() {
    throw Object.defineProperty(new Error("x"), "message", {
        get() {
            throw 1;
        },
    });
}
