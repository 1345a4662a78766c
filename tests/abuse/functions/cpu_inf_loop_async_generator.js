// An async generator without end.
// ends: fuel, timeout
async function handle() {
    const endless = (async function* () {
        for (;;) yield 1;
    })();
    for await (const one of endless);
}
