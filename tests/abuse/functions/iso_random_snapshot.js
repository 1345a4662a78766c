// Shows chance and time as a snapshot might have kept them.
// ends: ok
const early = [Math.random(), crypto.randomUUID()];
function handle() {
    return { drawn: [...early, Math.random(), Math.random(), crypto.randomUUID(), String(crypto.getRandomValues(new Uint32Array(4)))], now: Date.now() };
}
