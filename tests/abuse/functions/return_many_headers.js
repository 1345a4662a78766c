// Returns forty thousand headers.
// ends: ok, quota
function handle() {
    return { status: 200, headers: Object.fromEntries(Array.from({ length: 40000 }, (_, i) => ["x-" + i, "v"])), body: "b" };
}
