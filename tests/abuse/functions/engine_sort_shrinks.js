// A comparison that shrinks what is sorted.
// ends: ok, error
function handle() {
    const buffer = new ArrayBuffer(64, { maxByteLength: 64 });
    const bytes = new Uint8Array(buffer);
    bytes.sort((a, b) => {
        buffer.resize(1);
        return a - b;
    });
    const list = [5, 4, 3, 2, 1];
    list.sort((a, b) => {
        list.length = 0;
        return a - b;
    });
    return list;
}
