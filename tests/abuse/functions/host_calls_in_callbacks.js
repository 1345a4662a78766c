// Calls the platform from where nobody expects it: getters, comparisons, revivers, finalisers.
// ends: ok, quota
function handle() {
    const call = () => create("from-callback", { n: 1 }).ok;
    [2, 1].sort(call);
    "a".replace(/a/, call);
    JSON.parse("[1]", call);
    new FinalizationRegistry(call).register({}, 1);
    return JSON.stringify({ get x() { return call(); }, y: new Proxy({}, { ownKeys: () => (call(), []) }) });
}
