// Looks for marks of an earlier run.
// ends: ok
var counter = 0;
function handle() {
    counter++;
    const marks = [globalThis, {}, [], () => 1, Promise, JSON, Math, Symbol, console, log, create, handle].map((place) => place.polluted !== undefined);
    return [counter !== 1, ...marks, Math.random() === 0.5, Date.now() < 1e12, Object.isFrozen(Object.prototype), typeof polluted !== "undefined"];
}
