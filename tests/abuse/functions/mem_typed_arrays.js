// Buffers of a mebibyte without end.
// ends: memory
function handle() {
    const all = [];
    for (;;) all.push(new Uint8Array(1 << 20).fill(1));
}
