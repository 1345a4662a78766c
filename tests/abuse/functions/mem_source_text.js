// Functions made from ever longer text.
// ends: memory, fuel, timeout, error
function handle() {
    const all = [];
    for (let i = 1; ; i++) all.push(new Function("return [" + "1,".repeat(i * 1000) + "];"));
}
