// Draws random numbers for ever.
// ends: fuel, timeout
function handle() {
    for (;;) Math.random() + crypto.getRandomValues(new Uint8Array(1))[0];
}
