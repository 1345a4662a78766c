// Stores documents without end.
// ends: quota, timeout
function handle() {
    for (let i = 0; ; i++) create("flood", { i });
}
