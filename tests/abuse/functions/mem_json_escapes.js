// Text whose JSON is six times as long.
// ends: memory, quota, fuel, timeout
function handle() {
    return JSON.stringify(Array(2e6).fill("\u0001")).length;
}
