// Asks what it is an instance of, to answer the question.
// ends: stack
function handle() {
    class A {
        static [Symbol.hasInstance](o) {
            return o instanceof A;
        }
    }
    return {} instanceof A;
}
