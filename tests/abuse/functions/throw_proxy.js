// Throws a proxy that refuses everything.
// ends: error
function handle() {
    throw new Proxy(
        {},
        {
            get() {
                throw 1;
            },
            has() {
                throw 2;
            },
            getPrototypeOf() {
                throw 3;
            },
            ownKeys() {
                throw 4;
            },
        },
    );
}
