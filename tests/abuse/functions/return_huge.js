// Returns text of two megabytes.
// ends: quota
function handle() {
    return "x".repeat(2 << 20);
}
