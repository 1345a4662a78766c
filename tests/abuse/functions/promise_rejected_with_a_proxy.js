// A rejection with something that cannot be shown.
// ends: error
async function handle() {
    throw new Proxy(
        {},
        {
            get() {
                throw 1;
            },
            getPrototypeOf() {
                throw 2;
            },
        },
    );
}
