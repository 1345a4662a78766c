// Returns a response with a body of two megabytes.
// ends: quota
function handle() {
    return { status: 200, body: "x".repeat(2 << 20) };
}
