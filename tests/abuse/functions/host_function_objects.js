// Uses host functions as what they are not.
// ends: ok
function handle() {
    const tried = [];
    const attempt = (act) => {
        try {
            tried.push(typeof act());
        } catch (error) {
            tried.push(error.name);
        }
    };
    for (const host of [create, log, publish, email]) {
        attempt(() => new host("a", {}));
        attempt(() => Reflect.construct(host, ["a", {}], class {}));
        attempt(() => host.call(null, "a"));
        attempt(() => host.apply({}, { length: 3 }));
        attempt(() => host.bind(1, 2)(3));
        attempt(() => ((host.prototype = 1), host.prototype));
        attempt(() => ((host.own = "own"), host.own));
        attempt(() => Object.freeze(host));
        attempt(() => Object.setPrototypeOf(host, null));
        attempt(() => String(host));
        attempt(() => structuredClone(host));
        attempt(() => class extends host {});
    }
    return tried;
}
