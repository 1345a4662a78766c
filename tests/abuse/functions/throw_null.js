// Throws null.
// ends: error
function handle() {
    throw null;
}
