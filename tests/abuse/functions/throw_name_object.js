// Throws an error whose name is an object.
// ends: error
function handle() {
    throw Object.assign(new Error("x"), { name: { toString: () => "y".repeat(1e6) } });
}
