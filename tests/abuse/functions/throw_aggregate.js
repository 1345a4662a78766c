// Throws ten thousand errors in one.
// ends: error
function handle() {
    throw new AggregateError(Array.from({ length: 1e4 }, (_, i) => new Error("e" + i)), "many");
}
