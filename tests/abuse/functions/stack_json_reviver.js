// A reviver that parses.
// ends: stack
function handle() {
    const revive = () => JSON.parse("[1]", revive);
    return revive();
}
