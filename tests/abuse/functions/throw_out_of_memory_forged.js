// Throws an error that looks like the engine's own.
// ends: error, memory
function handle() {
    throw Object.assign(new Error("out of memory"), { name: "InternalError" });
}
