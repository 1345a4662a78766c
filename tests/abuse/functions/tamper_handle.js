// Takes itself away while it runs.
// ends: ok
function handle() {
    globalThis.handle = null;
    handle = undefined;
    return 1;
}
