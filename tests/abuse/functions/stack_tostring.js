// A text that contains itself.
// ends: stack
function handle() {
    const o = {
        toString() {
            return `${this}`;
        },
    };
    return String(o);
}
