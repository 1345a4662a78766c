// Joins millions of holes.
// ends: memory, error, fuel, timeout
function handle() {
    return new Array(4294967295).join("x").length;
}
