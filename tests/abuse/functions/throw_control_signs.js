// Throws text that would take over a terminal, or a log.
// ends: error
function handle() {
    throw new Error("\u001b[2J\u001b]0;owned\u0007\r\n2026-01-01T00:00:00.000Z ERROR forged\u0000\u2028\u202e");
}
