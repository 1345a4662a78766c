// A `toJSON` that never answers.
// ends: fuel, timeout
function handle() {
    return {
        toJSON() {
            for (;;);
        },
    };
}
