// A promise that waits for the next one, for ever.
// ends: memory, fuel, timeout
function handle() {
    const again = () => Promise.resolve().then(again);
    return again();
}
