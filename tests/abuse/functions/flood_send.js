// Sends messages without end.
// ends: quota, timeout
function handle() {
    for (let i = 0; ; i++) send("flood", "message " + i, "flood");
}
