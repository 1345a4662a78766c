// Returns more than may cross the boundary.
// ends: quota, memory, error
function handle() {
    return "x".repeat(20 << 20);
}
