// Reads lists without end.
// ends: quota, timeout, fuel
function handle() {
    for (;;) list("flood");
}
