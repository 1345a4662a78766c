// Leaves marks everywhere a later run could find them.
// ends: ok
var counter = 0;
function handle() {
    counter++;
    globalThis.polluted = "polluted";
    Object.prototype.polluted = "polluted";
    Array.prototype.polluted = "polluted";
    Function.prototype.polluted = "polluted";
    Promise.polluted = JSON.polluted = Math.polluted = Symbol.polluted = console.polluted = log.polluted = create.polluted = "polluted";
    Symbol.for("polluted").description;
    Math.random = () => 0.5;
    Date.now = () => 0;
    JSON.stringify = () => '"polluted"';
    Object.freeze(Object.prototype);
    handle.polluted = "polluted";
    return counter;
}
