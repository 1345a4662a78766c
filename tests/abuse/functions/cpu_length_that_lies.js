// Built-in functions on an object that says it is long.
// ends: fuel, timeout, error, memory
function handle() {
    const long = { length: Number.MAX_SAFE_INTEGER };
    return Array.prototype.every.call(long, () => true) + Array.prototype.indexOf.call(long, 1);
}
