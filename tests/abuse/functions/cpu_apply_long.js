// Calls a function with a hundred million arguments.
// ends: error, memory, fuel, timeout
function handle() {
    return Math.max.apply(null, { length: 1e8 });
}
