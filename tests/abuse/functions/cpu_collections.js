// Fills and empties a map for ever.
// ends: fuel, timeout
function handle() {
    const map = new Map();
    for (let i = 0; ; i++) {
        map.set(i, i);
        if (map.size > 1000) map.clear();
    }
}
