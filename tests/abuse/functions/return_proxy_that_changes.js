// Returns a proxy that has other names each time.
// ends: ok
function handle() {
    return new Proxy({}, { ownKeys: () => ["a" + Math.random()], getOwnPropertyDescriptor: () => ({ value: 1, enumerable: true, configurable: true }) });
}
