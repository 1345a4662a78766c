// Takes all memory, catches the error, and tries again for ever.
// ends: fuel, timeout
function handle() {
    for (;;) {
        try {
            const all = [];
            for (;;) all.push(new Uint8Array(1 << 20));
        } catch {
        }
    }
}
