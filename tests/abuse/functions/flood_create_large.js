// Stores as many bytes as it can.
// ends: quota, timeout, ok
function handle() {
    const text = "x".repeat(1000000);
    for (let i = 0; i < 100; i++) create("flood-large", { text });
}
