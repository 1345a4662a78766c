// Queries with text that is meant for the database, without end.
// ends: quota, timeout, fuel
function handle() {
    for (let i = 0; ; i++) query("flood", [["a' or 1=1 --" + i, "!=", "'; drop table documents; --"]], { sortBy: "1; select 1" });
}
