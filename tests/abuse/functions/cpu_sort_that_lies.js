// Sorts by a comparison that contradicts itself, again and again.
// ends: fuel, timeout
function handle() {
    const numbers = Array.from({ length: 1e4 }, (_, i) => i);
    for (;;) numbers.sort(() => (Math.random() < 0.5 ? -1 : 1));
}
