// `handle` calls itself.
// ends: stack
function handle() {
    return handle() + 1;
}
