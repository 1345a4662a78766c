// An object with names without end.
// ends: memory, fuel, timeout
function handle() {
    const object = {};
    for (let i = 0; ; i++) object["key-" + i] = i;
}
