// A default value that calls for itself.
// ends: stack
function f(a = f()) {
    return a;
}
function handle() {
    return f();
}
