// Queries with clauses nobody would write.
// ends: ok, quota
function handle() {
    const clauses = [null, 1, "x", {}, [[]], [["a"]], [["a", "="]], [["a", "=", 1, 2]], [[["a"], "=", 1]], [["a", "like", 1]], Array(10000).fill(["a", "=", 1]),
        [["a", "in", Array(50000).fill(1)]], [["a.".repeat(1000), "=", 1]], [["a", "=", "\u0000"]], [["a", "=", "\ud800"]], [["a".repeat(1e5), "=", 1]]];
    const options = [null, 1, "x", [], { page: -1 }, { page: 1e300, size: 1e300 }, { size: 0 }, { size: NaN }, { sortBy: {} }, { sortBy: "'; --" }, { sortDescending: "x" }];
    return [clauses.map((clause) => query("absurd", clause).ok), options.map((option) => list("absurd", option).ok)];
}
