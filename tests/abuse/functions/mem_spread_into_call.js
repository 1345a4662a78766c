// Spreads millions of arguments into a call.
// ends: memory, error, stack, ok
function handle() {
    return String.fromCharCode(...Array(1e6).fill(65)).length;
}
