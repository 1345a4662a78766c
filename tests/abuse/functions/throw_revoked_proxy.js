// Throws a proxy that was revoked.
// ends: error
function handle() {
    throw (() => {
        const { proxy, revoke } = Proxy.revocable({}, {});
        revoke();
        return proxy;
    })();
}
