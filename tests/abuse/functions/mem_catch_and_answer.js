// Takes all memory, lets go of it, and answers.
// ends: ok
function handle() {
    try {
        const all = [];
        for (;;) all.push(new Uint8Array(1 << 20));
    } catch (error) {
        return "caught";
    }
}
