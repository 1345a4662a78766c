// Replaces errors and their preparation.
// ends: ok, error
function handle() {
    Error.prepareStackTrace = () => {
        throw 1;
    };
    Error.stackTraceLimit = 1e9;
    globalThis.Error = globalThis.TypeError = class {
        constructor() {
            throw 1;
        }
    };
    log("done");
    return { a: 1 };
}
