// Recurses, and hopes to catch the end of the stack.
// ends: stack, fuel, timeout
function f() {
    try {
        f();
    } catch {
        f();
    } finally {
        f();
    }
}
function handle() {
    f();
    return "caught";
}
