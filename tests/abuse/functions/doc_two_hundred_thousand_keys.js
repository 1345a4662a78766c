// A document with a name for everything.
// ends: ok, memory, quota
function handle() {
    return create("keys", Object.fromEntries(Array.from({ length: 200000 }, (_, i) => ["key-" + i, i]))).ok;
}
