// Uses buffers after they were given away in the middle of a call.
// ends: ok, error
function handle() {
    const tried = [];
    for (const name of ["fill", "copyWithin", "set", "slice", "subarray", "indexOf", "join", "with", "at"]) {
        const buffer = new ArrayBuffer(1024, { maxByteLength: 4096 });
        const bytes = new Uint8Array(buffer);
        const trap = {
            valueOf() {
                if (buffer.transfer) buffer.transfer();
                else buffer.resize(0);
                return 1;
            },
        };
        try {
            tried.push([name, String(bytes[name](trap, trap, trap))]);
        } catch (error) {
            tried.push([name, error.name]);
        }
    }
    return tried;
}
