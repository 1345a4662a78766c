// Closures that hold each other.
// ends: memory, fuel, timeout
function handle() {
    let hold = () => 0;
    for (;;) {
        const before = hold,
            data = new Array(100).fill(0);
        hold = () => [before, data];
    }
}
