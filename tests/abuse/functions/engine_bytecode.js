// Feeds the engine what might be its own bytecode.
// ends: ok, error
function handle() {
    const tried = [];
    for (const code of ["\u0000\u0001", "\u{10ffff}", "\u2028", "#!", "<!--", "-->", "import.meta", "export default 1", "await 1", "yield", "%GetOptimizationStatus()", "@", "`${"]) {
        try {
            tried.push(typeof eval(code));
        } catch (error) {
            tried.push(error.name);
        }
    }
    return tried;
}
