// Throws text of five megabytes.
// ends: error
function handle() {
    throw "ß".repeat(2e6);
}
