// Returns a proxy that will not say its names.
// ends: error
function handle() {
    return new Proxy(
        {},
        {
            ownKeys() {
                throw new Error("no");
            },
        },
    );
}
