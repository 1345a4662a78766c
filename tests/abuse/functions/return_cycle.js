// Returns an object that contains itself.
// ends: error
function handle() {
    return (() => {
        const a = {};
        a.a = a;
        return a;
    })();
}
