// Takes apart what never ends.
// ends: fuel, timeout, memory
function handle() {
    const [...all] = (function* () {
        for (;;) yield 1;
    })();
    return all.length;
}
