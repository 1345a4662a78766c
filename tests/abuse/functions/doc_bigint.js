// A document with a number that JSON cannot hold.
// ends: error
function handle() {
    return create("weird", { n: 1n });
}
