// Compiles and evaluates source for ever.
// ends: fuel, timeout
function handle() {
    for (;;) eval("1 + 1");
}
