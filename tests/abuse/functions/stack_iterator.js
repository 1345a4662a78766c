// An iterator that iterates over itself.
// ends: stack
function handle() {
    const o = {
        [Symbol.iterator]() {
            return [...this][Symbol.iterator]();
        },
    };
    return [...o];
}
