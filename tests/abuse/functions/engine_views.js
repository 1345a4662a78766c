// Views with offsets and lengths at the edge of what numbers hold.
// ends: ok, error, memory
function handle() {
    const tried = [];
    const numbers = [-1, 0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53, Infinity, NaN];
    for (const one of numbers) {
        for (const two of numbers) {
            for (const act of [
                () => new DataView(new ArrayBuffer(8), one, two).getFloat64(one),
                () => new Uint32Array(new ArrayBuffer(8), one, two).length,
                () => new Uint8Array(8).subarray(one, two).length,
                () => new ArrayBuffer(8).slice(one, two).byteLength,
                () => "abc".substring(one, two).length + "abc".at(one) + "abc".slice(one, two),
                () => [1, 2].copyWithin(one, two).length,
            ]) {
                try {
                    tried.push(act());
                } catch (error) {
                    tried.push(error.name);
                }
            }
        }
    }
    return tried.length;
}
