// A loop without end.
// ends: fuel, timeout
function handle() {
    while (true) {}
}
