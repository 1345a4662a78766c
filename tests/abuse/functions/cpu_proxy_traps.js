// A proxy whose every trap never ends.
// ends: fuel, timeout
function handle() {
    const never = new Proxy(
        {},
        {
            get: () => () => {
                for (;;);
            },
        },
    );
    return new Proxy({}, never).x;
}
