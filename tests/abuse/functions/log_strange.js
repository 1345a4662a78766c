// Logs what cannot be shown.
// ends: ok
function handle() {
    const revoked = Proxy.revocable({}, {});
    revoked.revoke();
    const cycle = [];
    cycle.push(cycle);
    const values = [undefined, null, 10n, Symbol("s"), () => 1, revoked.proxy, cycle, "\ud800", "\u0000", new Error("x"), Object.create(null), -0, [,], new Map([[{}, 1]]),
        { get x() { throw 1; } }, { toString() { throw 1; } }, { toJSON() { throw 1; } }, new Proxy({}, { get() { throw 1; }, ownKeys() { throw 1; } }), new Date(NaN),
        new Uint8Array(1e6), "x".repeat(1e6), Array(1e5).fill(1)];
    for (const value of values) {
        log(value);
        console.error(value, value);
    }
    return values.length;
}
