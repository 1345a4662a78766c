// Thousands of microtasks that throw.
// ends: ok
function handle() {
    for (let i = 0; i < 5000; i++)
        queueMicrotask(() => {
            throw new Error("nobody " + i);
        });
    return 1;
}
