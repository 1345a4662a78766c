// Deletes every global.
// ends: ok, error
function handle() {
    for (const name of Reflect.ownKeys(globalThis)) {
        try {
            delete globalThis[name];
        } catch {
        }
    }
    log("done");
    return { a: 1 };
}
