// Returns an array that says it has four billion entries.
// ends: memory, error, fuel, timeout, quota
function handle() {
    return (() => {
        const a = [];
        a[4294967294] = 1;
        return a;
    })();
}
