// Changes arrays in the callbacks that walk over them.
// ends: ok, error, memory, fuel, timeout
function handle() {
    for (const name of ["map", "filter", "forEach", "some", "every", "find", "findLast", "reduce", "reduceRight", "flatMap", "toSorted"]) {
        const list = Array.from({ length: 1000 }, (_, i) => i);
        try {
            list[name]((a) => {
                list.length = 0;
                list.push(...Array(100).fill({}));
                list.splice(3, 50);
                return a;
            });
        } catch {
        }
    }
    const map = new Map([[1, 1]]);
    let turns = 0;
    for (const [key] of map) {
        map.delete(key);
        if (turns++ < 10000) map.set(key + 1, 1);
    }
    return turns;
}
