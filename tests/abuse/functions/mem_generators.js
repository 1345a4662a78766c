// Generators that are all half way.
// ends: memory, fuel, timeout
function handle() {
    const all = [];
    for (;;) {
        const half = (function* () {
            const data = new Array(50).fill(1);
            yield 1;
            yield data;
        })();
        half.next();
        all.push(half);
    }
}
