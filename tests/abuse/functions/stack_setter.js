// A property that sets itself.
// ends: stack
function handle() {
    new (class {
        set x(value) {
            this.x = value;
        }
    })().x = 1;
}
