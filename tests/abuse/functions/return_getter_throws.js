// Returns an object with a property that throws.
// ends: error
function handle() {
    return {
        get x() {
            throw new Error("no");
        },
    };
}
