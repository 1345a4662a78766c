// Throws a function.
// ends: error
function handle() {
    throw function () {};
}
