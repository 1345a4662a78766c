// Sorts within the comparison of a sort.
// ends: stack
function handle() {
    const compare = () => [2, 1].sort(compare).length;
    return [2, 1].sort(compare);
}
