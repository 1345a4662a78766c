// Logs what nests twenty thousand deep.
// ends: ok, stack
function handle() {
    let nested = [];
    for (let i = 0; i < 2e4; i++) nested = [nested];
    log(nested);
    return 1;
}
