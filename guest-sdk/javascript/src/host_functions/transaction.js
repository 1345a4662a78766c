// Makes `transaction` of what the world has: runs the closure, commits, and begins again after a conflict.
(begin, commit, giveUp) => {
    "use strict";
    const RUNS = 5;

    // What the closure throws leaves nothing of what it did.
    const run = closure => {
        begin();
        try {
            const value = closure();
            const pending = value !== null && typeof value === "object" && typeof value.then === "function";
            return { value, pending };
        } catch (error) {
            giveUp();
            throw error;
        }
    };

    const settle = async (closure, value, runs) => {
        for (;; runs++) {
            let settled;
            try {
                settled = await value;
            } catch (error) {
                giveUp();
                throw error;
            }
            if (commit(runs < RUNS)) return settled;
            ({ value } = run(closure));
        }
    };

    return function transaction(closure) {
        if (typeof closure !== "function") {
            throw new TypeError("transaction takes a function: transaction(() => { … })");
        }
        for (let runs = 1;; runs++) {
            const { value, pending } = run(closure);
            if (pending) return settle(closure, value, runs);
            if (commit(runs < RUNS)) return value;
        }
    };
}
