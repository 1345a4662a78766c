// Calls every host function with everything it does not expect.
// ends: ok, quota
function handle() {
    const functions = { create, list, getById, query, update, del, send, publish, email, sendMail, log };
    const values = [undefined, null, true, -1, NaN, Infinity, 10n, "", "x", Symbol("s"), {}, [], () => 1, new Date(NaN), new Map(), new Proxy({}, {}),
        new Uint8Array(4), { toString: () => "name" }, { toJSON: () => undefined }, { toJSON() { throw new Error("no"); } }, "\ud800", "a\u0000b",
        "../../etc/passwd", "x".repeat(100000)];
    const seen = {};
    for (const [name, call] of Object.entries(functions)) {
        for (const one of values) {
            for (const args of [[], [one], [one, one], ["tasks", one], [one, "tasks"], [one, one, one], ["tasks", "x", one], [one, one, one, one]]) {
                let end;
                try {
                    const answer = call(...args);
                    end = answer === undefined ? "nothing" : answer.ok ? "ok" : typeof answer.content;
                } catch (error) {
                    end = error instanceof Error ? "thrown" : "thrown value";
                }
                seen[name + " " + end] = (seen[name + " " + end] || 0) + 1;
            }
        }
    }
    return seen;
}
