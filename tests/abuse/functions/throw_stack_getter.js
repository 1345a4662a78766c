// Throws an error whose stack throws.
// ends: error
function handle() {
    throw Object.defineProperty(new Error("x"), "stack", {
        get() {
            throw 1;
        },
    });
}
