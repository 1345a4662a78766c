// A replacement that makes ten gigabytes of a megabyte.
// ends: memory, error
function handle() {
    return "a".repeat(1e6).replace(/a/g, "b".repeat(1e4)).length;
}
