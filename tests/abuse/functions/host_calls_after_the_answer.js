// Calls the platform from microtasks that run after the answer is there.
// ends: ok
function handle() {
    queueMicrotask(() => queueMicrotask(() => create("late", { n: 1 })));
    return "answer";
}
