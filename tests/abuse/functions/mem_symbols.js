// Symbols of the global registry without end.
// ends: memory, fuel, timeout
function handle() {
    const all = [];
    for (let i = 0; ; i++) all.push(Symbol.for("symbol-" + i + "x".repeat(100)));
}
