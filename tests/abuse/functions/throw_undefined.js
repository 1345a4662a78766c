// Throws nothing.
// ends: error
function handle() {
    throw undefined;
}
