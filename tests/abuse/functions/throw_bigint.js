// Throws a whole number.
// ends: error
function handle() {
    throw 10n;
}
