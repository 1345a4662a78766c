// Returns an object whose `toJSON` throws.
// ends: error
function handle() {
    return {
        toJSON() {
            throw new Error("no");
        },
    };
}
