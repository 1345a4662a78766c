// Stores a document that nests a hundred thousand deep.
// ends: stack, fuel, timeout
function handle() {
    let nested = {};
    for (let i = 0; i < 1e5; i++) nested = { nested };
    return create("nested", nested).ok;
}
