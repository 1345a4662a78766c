// Documents of what JavaScript has and JSON has not.
// ends: ok
function handle() {
    const values = [undefined, null, NaN, Infinity, -0, 1e400, 5e-324, 9007199254740993, 0.1 + 0.2, new Date(NaN), new Date(0), /x/g, new Map([[1, 2]]), new Set([1]), () => 1,
        Symbol("s"), [undefined, , 1], new String("boxed"), new Uint8Array(3), "\u2028\ufeff\u202e", Object.create({ inherited: 1 }), { toJSON: () => 1 }];
    return values.map((value, index) => {
        const made = create("weird", { index, value });
        return made.ok ? JSON.stringify(getById("weird", made.content.id).content.value) : "refused";
    });
}
