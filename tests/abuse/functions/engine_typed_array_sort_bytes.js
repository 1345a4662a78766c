// Sorts as many bytes as there is memory for, by a comparison (CVE-2026-120439).
// ends: ok, error, memory, fuel, timeout, stack
function handle() {
    const bytes = new Uint8Array(30 << 20);
    bytes[5] = 1;
    return bytes.sort((a, b) => b - a)[0];
}
