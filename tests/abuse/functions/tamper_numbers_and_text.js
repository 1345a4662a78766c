// Breaks text and numbers.
// ends: ok, error
function handle() {
    String.prototype.toString = Number.prototype.toString = String.prototype.valueOf = () => {
        throw 1;
    };
    Symbol.toPrimitive in Date.prototype;
    log("done");
    return { a: 1 };
}
