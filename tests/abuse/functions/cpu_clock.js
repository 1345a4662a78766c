// Asks for the time for ever.
// ends: fuel, timeout
function handle() {
    for (;;) Date.now();
}
