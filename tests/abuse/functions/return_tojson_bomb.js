// A `toJSON` that returns something with a `toJSON`.
// ends: stack, fuel, timeout
function handle() {
    const bomb = { toJSON: () => ({ again: { toJSON: bomb.toJSON } }) };
    return bomb;
}
