// An array that contains itself, as text.
// ends: stack, ok
function handle() {
    const a = [1];
    a.push(a);
    return String(a) + a.join();
}
