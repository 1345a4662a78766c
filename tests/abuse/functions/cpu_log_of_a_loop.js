// Logs an object whose properties never answer.
// ends: fuel, timeout, ok
function handle() {
    log(
        new Proxy(
            {},
            {
                ownKeys() {
                    for (;;);
                },
            },
        ),
    );
}
