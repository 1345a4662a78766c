// Throws a symbol.
// ends: error
function handle() {
    throw Symbol("s");
}
