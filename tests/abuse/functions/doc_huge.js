// Documents as large as can be, and larger.
// ends: ok, quota, memory
function handle() {
    const text = (bytes) => create("huge", { text: "x".repeat(bytes) }).ok;
    return [text(1 << 19), text(1 << 20), text(3 << 20), create("huge", Object.fromEntries(Array.from({ length: 200000 }, (_, i) => ["k" + i, i]))).ok];
}
