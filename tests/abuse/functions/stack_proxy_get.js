// A proxy that asks itself.
// ends: stack
function handle() {
    const p = new Proxy({}, { get: (_, name) => p[name] });
    return p.x;
}
