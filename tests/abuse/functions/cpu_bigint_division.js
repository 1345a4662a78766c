// Divisions of long numbers, for ever.
// ends: fuel, timeout
function handle() {
    const a = 3n ** 200000n,
        b = 7n ** 30000n;
    for (let i = 1n; ; i++) (a + i) % b;
}
