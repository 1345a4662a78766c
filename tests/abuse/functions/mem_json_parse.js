// JSON of millions of small values.
// ends: memory, error, ok
function handle() {
    return JSON.parse("[" + "[],".repeat(3e6) + "1]").length;
}
