// A class that makes itself in its constructor.
// ends: stack
class A {
    constructor() {
        this.next = new A();
    }
}
function handle() {
    return new A();
}
