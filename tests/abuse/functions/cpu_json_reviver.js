// A reviver that never answers.
// ends: fuel, timeout
function handle() {
    return JSON.parse("[1]", () => {
        for (;;);
    });
}
