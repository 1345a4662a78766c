// A map that grows for ever.
// ends: memory, fuel, timeout
function handle() {
    const map = new Map();
    for (let i = 0; ; i++) map.set(i, [i]);
}
