// A result whose `then` throws when it is looked at.
// ends: error
function handle() {
    return {
        get then() {
            throw new Error("do not look");
        },
    };
}
