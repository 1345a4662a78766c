// Text of half a gigabyte.
// ends: memory, error
function handle() {
    return "x".repeat(2 ** 29).length;
}
