// Cycles that only a collector frees.
// ends: ok
function handle() {
    for (let i = 0; i < 1000; i++) {
        const a = { buffer: new ArrayBuffer(1 << 20) },
            b = { a };
        a.b = b;
    }
    return "collected";
}
