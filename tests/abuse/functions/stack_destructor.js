// Frees a chain of a million objects at once.
// ends: ok, stack, memory, fuel
function handle() {
    let chain = null;
    for (let i = 0; i < 3e5; i++) chain = { chain };
    chain = null;
    return 1;
}
