// Flattens nested arrays, again and again.
// ends: fuel, timeout
function handle() {
    let nested = [];
    for (let i = 0; i < 100; i++) nested = [nested, i];
    for (;;) nested.flat(Infinity);
}
