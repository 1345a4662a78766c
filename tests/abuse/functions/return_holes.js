// Returns an array of ten thousand holes.
// ends: ok
function handle() {
    return new Array(10000);
}
