// Makes functions from text for ever, each with a loop in it.
// ends: fuel, timeout
function handle() {
    for (;;) new Function("a", "for (let i = 0; i < 1000; i++) a += i; return a;")(1);
}
