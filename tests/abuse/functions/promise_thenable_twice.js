// A thenable that resolves, rejects and throws.
// ends: ok
function handle() {
    return {
        then(resolve, reject) {
            resolve("first");
            reject(new Error("second"));
            throw new Error("third");
        },
    };
}
