// A function that calls itself.
// ends: stack
function f() {
    return 1 + f();
}
function handle() {
    return f();
}
