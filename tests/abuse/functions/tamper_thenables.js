// Gives every object a `then`.
// ends: ok, error
function handle() {
    Object.defineProperty(Object.prototype, "then", {
        get() {
            throw 1;
        },
    });
    log("done");
    return { a: 1 };
}
