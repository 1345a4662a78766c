// Publishes large messages without end.
// ends: quota, timeout
function handle() {
    for (let i = 0; ; i++) publish("flood", "t", "x".repeat(60000));
}
