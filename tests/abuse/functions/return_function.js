// Returns a function.
// ends: ok
function handle() {
    return () => 1;
}
