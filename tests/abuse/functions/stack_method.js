// A method that calls itself through `super`'s place.
// ends: stack
class A {
    m() {
        return this.m() + 1;
    }
}
class B extends A {
    m() {
        return super.m() + 1;
    }
}
function handle() {
    return new B().m();
}
