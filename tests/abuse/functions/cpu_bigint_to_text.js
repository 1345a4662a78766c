// Digits of a number of a million bits, again and again.
// ends: fuel, timeout
function handle() {
    const n = 7n ** 300000n;
    for (;;) n.toString();
}
