// Logs a text of all its memory.
// ends: ok, memory, quota, error
function handle() {
    log("x".repeat(30 << 20));
}
