// Throws text that is no error.
// ends: error
function handle() {
    throw "only text";
}
