// Breaks the engine at the top level, for itself only.
// ends: ok, error
Object.prototype.toJSON = () => "broken";
JSON.stringify = Promise.prototype.then = Array.prototype.push = () => {
    throw 1;
};
Object.freeze(globalThis);
function handle() {
    return { a: 1 };
}
