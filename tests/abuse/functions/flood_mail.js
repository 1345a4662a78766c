// Sends mails without end.
// ends: quota
function handle() {
    for (let i = 0; ; i++) email({ to: `victim${i}@example.com`, subject: "s", body: "b" });
}
