// Adds to a set while it is read.
// ends: fuel, timeout, memory
function handle() {
    const set = new Set([0]);
    for (const n of set) set.add(n + 1);
}
