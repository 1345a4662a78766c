// A function made from text that never ends.
// ends: fuel, timeout
function handle() {
    return Function("for (;;);")();
}
