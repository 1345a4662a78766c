// A regular expression that repeats inside a look behind.
// ends: fuel, timeout
function handle() {
    return /(?<=x(a+)+)b/.test("y" + "a".repeat(40) + "b");
}
