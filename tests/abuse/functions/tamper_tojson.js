// Gives every object a `toJSON`.
// ends: ok, error
function handle() {
    Object.prototype.toJSON = () => "broken";
    Object.prototype.ok = "broken";
    log("done");
    return { a: 1 };
}
