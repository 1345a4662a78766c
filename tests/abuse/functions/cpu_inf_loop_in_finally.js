// An error whose `finally` never ends.
// ends: fuel, timeout
function handle() {
    try {
        throw new Error("out");
    } finally {
        for (;;);
    }
}
