// A regular expression that tries each way to split a text.
// ends: fuel, timeout
function handle() {
    return /^(a+)+$/.test("a".repeat(40) + "b");
}
