// Throws what throws when it becomes text.
// ends: error
function handle() {
    throw {
        toString() {
            throw 1;
        },
    };
}
