// A whole number of a hundred billion bits.
// ends: error, memory
function handle() {
    return 2n << 100000000000n;
}
