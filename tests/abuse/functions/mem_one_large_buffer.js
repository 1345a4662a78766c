// One buffer larger than all memory.
// ends: memory, error
function handle() {
    return new ArrayBuffer(1e9).byteLength;
}
