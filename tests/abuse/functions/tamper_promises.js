// Replaces promises.
// ends: ok, error
function handle() {
    Promise.prototype.then = () => {
        throw 1;
    };
    globalThis.Promise = null;
    log("done");
    return { a: 1 };
}
