// A proxy that is its own prototype's trap.
// ends: fuel, timeout, stack, error
function handle() {
    const p = new Proxy({}, { get: (target, name, self) => Reflect.get(Object.create(self), name) });
    return p.x;
}
