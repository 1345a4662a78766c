// Fills an array of four billion entries.
// ends: memory, error, fuel, timeout
function handle() {
    return new Array(4294967295).fill(1).length;
}
