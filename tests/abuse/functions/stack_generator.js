// A generator that delegates to itself.
// ends: stack, memory
function handle() {
    function* g() {
        yield* g();
    }
    return [...g()];
}
