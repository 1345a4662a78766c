// Waits on memory that nobody shares.
// ends: ok, error, fuel, timeout
function handle() {
    const shared = new Int32Array(new SharedArrayBuffer(8));
    return typeof Atomics.wait(shared, 0, 0, 100);
}
