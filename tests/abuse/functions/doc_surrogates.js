// Documents with text that is not Unicode.
// ends: ok
function handle() {
    const kept = [create("strange", { text: "a\ud800b" }), create("strange", { ["\udfff"]: 1 }), create("strange", { good: "\ud83d\ude00" })];
    return kept.map((answer) => answer.ok);
}
