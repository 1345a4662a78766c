// A generator without end, and a loop that takes from it.
// ends: fuel, timeout
function handle() {
    const endless = (function* () {
        for (;;) yield;
    })();
    for (const nothing of endless);
}
