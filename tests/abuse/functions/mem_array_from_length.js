// An array from an object that says it is long.
// ends: memory, error, fuel, timeout
function handle() {
    return Array.from({ length: 1e9 }).length;
}
