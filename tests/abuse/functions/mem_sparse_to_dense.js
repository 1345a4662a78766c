// A sparse array that becomes dense.
// ends: memory, error, fuel, timeout
function handle() {
    const a = [];
    a[4e9] = 1;
    return [...a].length;
}
