// Ever larger regular expressions.
// ends: memory, fuel, timeout, error
function handle() {
    const all = [];
    for (let i = 1; ; i++) all.push(new RegExp("(?:a{1,100}|" + "b|".repeat(i * 100) + "c)"));
}
