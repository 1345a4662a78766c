// A property that never answers, read when the result becomes JSON.
// ends: fuel, timeout
function handle() {
    return {
        get x() {
            for (;;);
        },
    };
}
