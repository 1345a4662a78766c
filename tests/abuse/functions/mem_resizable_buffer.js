// A buffer that may grow to a gigabyte, and grows.
// ends: error, memory, ok
function handle() {
    const buffer = new ArrayBuffer(1, { maxByteLength: 2 ** 30 });
    for (let size = 1; size <= 2 ** 30; size *= 2) buffer.resize(size);
    return buffer.byteLength;
}
