// Deletes what is not there, without end.
// ends: quota, timeout
function handle() {
    for (let i = 0; ; i++) del("flood", "id-" + i);
}
