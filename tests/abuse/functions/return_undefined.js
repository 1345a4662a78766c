// Returns nothing.
// ends: ok
function handle() {
    return undefined;
}
