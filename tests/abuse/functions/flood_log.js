// Logs without end.
// ends: fuel, timeout
function handle() {
    for (let i = 0; ; i++) log("line " + i);
}
