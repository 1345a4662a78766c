// Flattens what nests a hundred thousand deep.
// ends: stack, memory, error, ok
function handle() {
    let nested = [];
    for (let i = 0; i < 1e5; i++) nested = [nested];
    return nested.flat(Infinity).length;
}
