// A regular expression whose branches overlap.
// ends: fuel, timeout
function handle() {
    return /^(a|aa|a?)+$/.test("a".repeat(60) + "!");
}
