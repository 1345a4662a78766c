// Throws an error with a hundred thousand causes.
// ends: error, stack, memory
function handle() {
    throw (() => {
        let error = new Error("first");
        for (let i = 0; i < 1e5; i++) error = new Error("next", { cause: error });
        return error;
    })();
}
