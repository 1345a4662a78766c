// A comparison that never answers.
// ends: fuel, timeout
function handle() {
    return [3, 1, 2].sort(() => {
        for (;;);
    });
}
