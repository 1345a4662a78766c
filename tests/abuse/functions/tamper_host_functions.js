// Replaces the host functions and reads them back.
// ends: ok, error
function handle() {
    create = list = query = publish = send = undefined;
    globalThis.console = null;
    Object.defineProperty(globalThis, "email", { get: () => { throw 1; } });
    log("done");
    return { a: 1 };
}
