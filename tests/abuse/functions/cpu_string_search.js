// Searches a long text for what is nearly there, for ever.
// ends: fuel, timeout
function handle() {
    const text = "a".repeat(1e6),
        nearly = "a".repeat(5e5) + "b";
    for (;;) text.indexOf(nearly);
}
