// Texts of many megabytes to every host function.
// ends: quota, fuel, timeout
function handle() {
    const huge = "x".repeat(7 << 20);
    return [create("a", { huge }).ok, create(huge, {}).ok, getById("a", huge).ok, query("a", [["x", "=", huge]]).ok, list(huge).ok,
        publish("c", "t", huge).ok, publish(huge, "t", 1).ok, send(huge, "d", "c").ok, email({ to: huge, subject: huge, body: huge }).ok];
}
