// Source that nests a hundred thousand deep.
// ends: stack, error, memory
function handle() {
    return eval("(".repeat(1e5) + "1" + ")".repeat(1e5));
}
