// A hundred thousand prototypes one behind the other.
// ends: ok, stack, memory
function handle() {
    let o = null;
    for (let i = 0; i < 1e5; i++) o = Object.create(o);
    return "x" in o;
}
