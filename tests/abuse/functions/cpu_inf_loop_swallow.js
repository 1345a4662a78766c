// A loop without end that catches whatever might stop it.
// ends: fuel, timeout
function handle() {
    for (;;) {
        try {
            for (;;) {}
        } catch {
        } finally {
            continue;
        }
    }
}
