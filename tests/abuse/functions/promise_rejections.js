// Thousands of rejections that nobody waits for.
// ends: ok
function handle() {
    for (let i = 0; i < 5000; i++) Promise.reject(new Error("nobody " + i));
    return 1;
}
