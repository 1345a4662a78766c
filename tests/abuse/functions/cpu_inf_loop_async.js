// An async function that waits for nothing, for ever.
// ends: fuel, timeout
async function handle() {
    for (;;) await null;
}
