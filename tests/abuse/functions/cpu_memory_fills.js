// Fills a large buffer for ever: few instructions, much work.
// ends: fuel, timeout
function handle() {
    const bytes = new Uint8Array(16 << 20);
    for (let i = 0; ; i++) bytes.fill(i);
}
