// Maps within a map.
// ends: stack
function handle() {
    const again = () => [1].map(again);
    return again();
}
