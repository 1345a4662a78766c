// An async function that awaits itself.
// ends: stack
async function f() {
    return 1 + (await f());
}
async function handle() {
    return f();
}
