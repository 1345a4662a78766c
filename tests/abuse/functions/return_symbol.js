// Returns a symbol.
// ends: ok
function handle() {
    return Symbol("x");
}
