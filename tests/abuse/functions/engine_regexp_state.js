// Regular expressions that are changed while they run.
// ends: ok, error
function handle() {
    const expression = /a/g;
    expression.lastIndex = {
        valueOf() {
            expression.compile("b".repeat(100), "g");
            return 0;
        },
    };
    const tried = [expression.test("aaaa")];
    class Odd extends RegExp {
        exec() {
            return { index: -1, 0: "x".repeat(100), length: 4294967295 };
        }
    }
    for (const act of [(e) => "abc".replace(e, "$0$1$99$<x>"), (e) => "abc".split(e), (e) => "abc".search(e), (e) => "abc".match(e)]) {
        try {
            tried.push(String(act(new Odd("a"))).slice(0, 20));
        } catch (error) {
            tried.push(error.name);
        }
    }
    return tried;
}
