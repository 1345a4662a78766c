// Promises that wait for each other without end.
// ends: memory, fuel, timeout
async function handle() {
    let promise = new Promise(() => {});
    for (;;) promise = promise.then((value) => value);
}
