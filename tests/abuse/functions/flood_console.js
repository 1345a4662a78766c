// Logs objects on all levels without end.
// ends: fuel, timeout
function handle() {
    for (let i = 0; ; i++) console[["log", "info", "warn", "error", "debug"][i % 5]]({ i, nested: { all: [i, [i]] } });
}
