// Throws an error with a stack of a megabyte.
// ends: error
function handle() {
    throw Object.defineProperty(new Error("x"), "stack", { value: "at forged (server.rs:1)\n".repeat(4e4) });
}
