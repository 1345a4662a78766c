// Log entries that pretend to be several, or somebody else's.
// ends: ok
function handle() {
    log("one\n2026-01-01T00:00:00.000Z ERROR forged: everything is lost");
    log("\u001b[2J\u001b[31mred\u001b]0;owned\u0007");
    log("\r\nFunction completed\u2028\u0000\u202e");
}
