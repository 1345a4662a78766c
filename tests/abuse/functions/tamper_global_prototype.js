// Puts a proxy behind the global object.
// ends: ok, error
function handle() {
    Object.setPrototypeOf(
        globalThis,
        new Proxy(
            {},
            {
                get() {
                    throw 1;
                },
                has: () => true,
            },
        ),
    );
    log("done");
    return { a: 1 };
}
