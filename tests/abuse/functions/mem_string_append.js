// Text that grows by a little.
// ends: memory, error, fuel, timeout
function handle() {
    let text = "";
    for (;;) text += Math.random();
}
