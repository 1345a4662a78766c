// Spreads what it gets into a call of itself.
// ends: stack, memory
function f(...all) {
    return f(...all, 1);
}
function handle() {
    return f();
}
