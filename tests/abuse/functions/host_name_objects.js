// The name of a collection is an object whose text never comes.
// ends: ok
function handle() {
    const name = {
        toString() {
            for (;;);
        },
    };
    // Only strings and numbers are names: it is never asked.
    return [create(name, {}).ok, list(name).ok, publish(name, "t", 1).ok];
}
