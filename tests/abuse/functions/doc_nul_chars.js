// Documents with U+0000, in values and in names.
// ends: ok
function handle() {
    const kept = [create("strange", { text: "a\u0000b" }), create("strange", { ["a\u0000b"]: 1 }), create("strange", { deep: [{ x: ["\u0000"] }] })];
    return kept.map((answer) => answer.ok);
}
