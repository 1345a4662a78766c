// A proxy that says it has millions of names.
// ends: memory, error, fuel, timeout
function handle() {
    const names = Array.from({ length: 3e6 }, (_, i) => "k" + i);
    return Reflect.ownKeys(new Proxy({}, { ownKeys: () => names })).length;
}
