// Throws an error whose text never comes.
// ends: fuel, timeout, error
function handle() {
    throw new Proxy(new Error("x"), {
        get() {
            for (;;);
        },
    });
}
