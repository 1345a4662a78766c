// Long whole numbers without end.
// ends: memory, fuel, timeout
function handle() {
    const all = [];
    for (let i = 1n; ; i++) all.push(i << 1000000n);
}
