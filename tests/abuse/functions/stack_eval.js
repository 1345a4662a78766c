// Evaluates text that evaluates itself.
// ends: stack
function handle() {
    const code = "eval(code) + 1";
    return eval(code);
}
