// Weak references and registries without end.
// ends: memory, fuel, timeout
function handle() {
    const refs = [],
        registry = new FinalizationRegistry(() => refs.push(1));
    for (;;) {
        const object = {};
        registry.register(object, new Array(100).fill(0));
        refs.push(new WeakRef(object));
    }
}
