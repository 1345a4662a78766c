// Normalises long text with many marks, for ever.
// ends: fuel, timeout
function handle() {
    const text = ("a" + "\u0301\u0323".repeat(50)).repeat(1e3);
    for (;;) text.normalize("NFC").normalize("NFD");
}
