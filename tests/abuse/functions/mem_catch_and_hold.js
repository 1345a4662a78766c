// Takes all memory, keeps it, and goes on asking for more.
// ends: fuel, timeout, memory, error
function handle() {
    const all = [];
    for (;;) {
        try {
            all.push(new Uint8Array(1 << 16));
        } catch {
        }
    }
}
