// Answers, and leaves microtasks behind that never end.
// ends: fuel, timeout
function handle() {
    const again = () => queueMicrotask(again);
    again();
    return "answer";
}
