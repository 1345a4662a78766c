// Each microtask queues two.
// ends: memory, fuel, timeout
function handle() {
    const again = () => {
        queueMicrotask(again);
        queueMicrotask(again);
    };
    again();
}
