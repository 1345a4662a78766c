// Encodes and decodes text for ever.
// ends: fuel, timeout
function handle() {
    for (;;) decodeURIComponent(encodeURIComponent("ß€😀".repeat(1000)));
}
