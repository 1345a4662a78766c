// Breaks calling.
// ends: ok, error
function handle() {
    Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => {
        throw 1;
    };
    log("done");
    return { a: 1 };
}
