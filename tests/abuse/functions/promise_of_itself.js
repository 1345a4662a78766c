// A promise that is resolved with itself.
// ends: error
function handle() {
    let resolve;
    const promise = new Promise((done) => (resolve = done));
    resolve(promise);
    return promise;
}
