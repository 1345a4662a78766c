// Documents with names that belong to prototypes.
// ends: ok
function handle() {
    const body = JSON.parse('{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": true}}, "toString": 1, "hasOwnProperty": 2}');
    const made = create("proto", body);
    const back = getById("proto", made.content.id).content;
    return [made.ok, Object.keys(back).includes("__proto__"), ({}).polluted === undefined, back.polluted === undefined];
}
