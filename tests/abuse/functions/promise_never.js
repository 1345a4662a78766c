// A promise that nobody settles.
// ends: error
function handle() {
    return new Promise(() => {});
}
