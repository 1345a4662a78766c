// A property that reads itself.
// ends: stack
function handle() {
    return new (class {
        get x() {
            return this.x + 1;
        }
    })().x;
}
