// Returns an object whose property stores a document each time it is read.
// ends: ok
function handle() {
    return {
        get x() {
            return create("read", {}).ok;
        },
    };
}
