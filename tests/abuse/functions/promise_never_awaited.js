// Waits for a promise that nobody settles.
// ends: error
async function handle() {
    await new Promise(() => {});
    return "after";
}
