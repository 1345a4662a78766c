// Padding of a gigabyte.
// ends: memory, error
function handle() {
    return "x".padEnd(2 ** 30, "ab").length;
}
