// Returns numbers that are none.
// ends: ok
function handle() {
    return [NaN, Infinity, -Infinity, -0, 1e308 * 10, 5e-324];
}
