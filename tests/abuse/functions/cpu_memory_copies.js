// Copies a large buffer for ever: few instructions, much work.
// ends: fuel, timeout
function handle() {
    const bytes = new Uint8Array(8 << 20);
    for (;;) bytes.copyWithin(1, 0);
}
