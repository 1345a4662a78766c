// Returns a proxy that was revoked.
// ends: error
function handle() {
    return (() => {
        const { proxy, revoke } = Proxy.revocable([], {});
        revoke();
        return proxy;
    })();
}
