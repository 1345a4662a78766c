// Turns text into bytes and back for ever.
// ends: fuel, timeout
function handle() {
    for (;;) new TextDecoder().decode(new TextEncoder().encode("ß€😀".repeat(1000)));
}
