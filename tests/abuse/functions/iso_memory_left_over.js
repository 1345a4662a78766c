// Reads fresh memory for what another run may have left there.
// ends: ok
function handle() {
    let found = 0;
    for (let i = 0; i < 20; i++) {
        const words = new Uint32Array(1 << 18);
        for (const word of words) if (word !== 0) found++;
    }
    return found;
}
