// Throws and catches errors, with their stacks, for ever.
// ends: fuel, timeout
function handle() {
    for (;;) {
        try {
            null.x;
        } catch (error) {
            error.stack;
        }
    }
}
