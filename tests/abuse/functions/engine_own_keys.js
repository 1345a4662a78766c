// A proxy with more names than 32 bits can count (CVE-2026-120438).
// ends: ok, error, memory, fuel, timeout, stack
function handle() {
    const names = new Proxy([], { get: (_, name) => (name === "length" ? 0x20000001 : "k" + String(name)), has: () => true });
    return Reflect.ownKeys(new Proxy({}, { ownKeys: () => names })).length;
}
