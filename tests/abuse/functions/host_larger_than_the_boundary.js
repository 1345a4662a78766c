// A text to a host function that is longer than any may be.
// ends: quota, memory, error
function handle() {
    return create("a", { huge: "x".repeat(20 << 20) });
}
