// Returns a date that is none.
// ends: ok
function handle() {
    return new Date(NaN);
}
