// A text so long that matching it would recurse.
// ends: stack, ok, memory, fuel, timeout, error
function handle() {
    return /^(?:a|b|c)*$/.test("abc".repeat(1e6));
}
