// A regular expression that nests fifty thousand deep.
// ends: stack, error, memory, ok
function handle() {
    return new RegExp("(".repeat(5e4) + ")".repeat(5e4)).test("");
}
