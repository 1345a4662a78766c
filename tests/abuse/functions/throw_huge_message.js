// Throws a message of five megabytes.
// ends: error
function handle() {
    throw new Error("x".repeat(5e6));
}
