// A hundred thousand proxies one behind the other.
// ends: stack, memory, error, ok
function handle() {
    let p = {};
    for (let i = 0; i < 1e5; i++) p = new Proxy(p, {});
    return p.x === undefined;
}
