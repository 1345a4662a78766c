// Stores documents without end, and catches what might stop it.
// ends: quota, timeout
function handle() {
    for (;;) {
        try {
            create("flood", {});
        } catch {
        } finally {
            continue;
        }
    }
}
