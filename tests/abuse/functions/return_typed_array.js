// Returns a large typed array, which becomes an object with a name for each byte.
// ends: quota, memory, fuel, timeout, error
function handle() {
    return new Uint8Array(1 << 20);
}
