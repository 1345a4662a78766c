// A regular expression with a reference into what it repeats.
// ends: fuel, timeout
function handle() {
    return /^(.*)(.*)(.*)(.*)(.*)\1\2\3\4\5x$/.test("ab".repeat(200));
}
