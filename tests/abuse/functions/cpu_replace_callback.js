// A replacement that never answers.
// ends: fuel, timeout
function handle() {
    return "abc".replace(/b/, () => {
        for (;;);
    });
}
