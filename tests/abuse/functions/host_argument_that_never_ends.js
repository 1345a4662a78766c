// A document whose property never answers.
// ends: fuel, timeout
function handle() {
    return create("never", {
        get x() {
            for (;;);
        },
    });
}
