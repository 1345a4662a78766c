// Each microtask queues the next.
// ends: fuel, timeout
function handle() {
    const again = () => queueMicrotask(again);
    again();
}
