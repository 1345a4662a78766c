// Nests a hundred thousand deep and becomes JSON.
// ends: stack, fuel, timeout
function handle() {
    let nested = [];
    for (let i = 0; i < 1e5; i++) nested = [nested];
    return nested;
}
