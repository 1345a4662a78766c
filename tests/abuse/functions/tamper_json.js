// Replaces JSON.
// ends: ok, error
function handle() {
    JSON.stringify = () => "broken";
    JSON.parse = () => {
        throw 1;
    };
    log("done");
    return { a: 1 };
}
