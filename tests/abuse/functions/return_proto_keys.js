// Returns an object with the names of its prototype's business.
// ends: ok
function handle() {
    return JSON.parse('{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": true}}}');
}
