// A number that is computed from itself.
// ends: stack
function handle() {
    const o = {
        [Symbol.toPrimitive]() {
            return +this;
        },
    };
    return o + 1;
}
