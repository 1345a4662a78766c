// Text that doubles.
// ends: memory, error
function handle() {
    let text = "x";
    for (;;) text += text;
}
