// Throws a promise that is rejected.
// ends: error
function handle() {
    throw Promise.reject("x");
}
