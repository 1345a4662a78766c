// Breaks iteration.
// ends: ok, error
function handle() {
    Array.prototype[Symbol.iterator] = function* () {
        throw 1;
    };
    Array.prototype.push = () => {
        throw 1;
    };
    log("done");
    return { a: 1 };
}
