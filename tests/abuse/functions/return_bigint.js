// Returns a whole number that JSON cannot hold.
// ends: error
function handle() {
    return 1n;
}
