// Throws an error that is its own cause.
// ends: error
function handle() {
    throw (() => {
        const error = new Error("loop");
        error.cause = error;
        return error;
    })();
}
