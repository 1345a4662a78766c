// A thenable that resolves to another thenable, for ever.
// ends: fuel, timeout, memory
function handle() {
    const again = () => ({ then: (resolve) => resolve(again()) });
    return again();
}
