// Source with a hundred thousand operators in a row.
// ends: stack, ok, memory, error
function handle() {
    return eval("-".repeat(0) + "1" + "**1".repeat(1e5)) + eval("!".repeat(1e5) + "1");
}
