// Asks for documents that are not there, without end.
// ends: quota, timeout, fuel
function handle() {
    for (let i = 0; ; i++) getById("flood", "id-" + i);
}
