// Parses JSON that nests a hundred thousand deep.
// ends: stack, error, ok
function handle() {
    return JSON.parse("[".repeat(1e5) + "]".repeat(1e5)).length;
}
