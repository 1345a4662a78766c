// A power of whole numbers with millions of digits.
// ends: fuel, timeout, memory, error
function handle() {
    let n = 3n;
    for (;;) n *= n;
}
