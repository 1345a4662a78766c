// Small objects without end.
// ends: memory
function handle() {
    const all = [];
    for (let i = 0; ; i++) all.push({ i });
}
