// A harmless regular expression on a long text, for ever.
// ends: fuel, timeout
function handle() {
    const text = "lorem ipsum ".repeat(1e4);
    for (;;) text.match(/\b(\w+)\s\1\b/g);
}
