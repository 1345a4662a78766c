// Dates at the edge of time.
// ends: ok, error
function handle() {
    const tried = [];
    for (const time of [8.64e15, -8.64e15, 8.64e15 + 1, NaN, 1e300, "x".repeat(1e5), "-271821-04-20", "+275760-09-13T00:00:00.001Z"]) {
        try {
            tried.push(new Date(time).toISOString(), new Date(time).toString(), new Date(time).toLocaleString());
        } catch (error) {
            tried.push(error.name);
        }
    }
    return tried;
}
