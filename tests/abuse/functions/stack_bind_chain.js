// A function that is bound a hundred thousand times.
// ends: stack, memory, error, ok
function handle() {
    let f = () => 1;
    for (let i = 0; i < 1e5; i++) f = f.bind(null);
    return f();
}
