// Throws an object without anything.
// ends: error
function handle() {
    throw Object.create(null);
}
