// Puts headers, addresses and commands into the fields of a mail.
// ends: ok, quota
function handle() {
    const lines = "x\r\nBcc: other@example.com\r\n\r\nforged";
    return [
        email({ to: "a@example.com\r\nBcc: b@example.com", subject: "s", body: "b" }).ok,
        email({ to: "a@example.com,b@example.com", subject: "s", body: "b" }).ok,
        email({ to: "a@example.com", subject: lines, body: "b" }).ok,
        email({ to: "a@example.com", from: lines, subject: "s", body: "b" }).ok,
        email({ to: "a@example.com", fromName: lines, toName: lines, replyTo: lines, subject: "s", body: ".\r\nMAIL FROM:<x>\r\n" }).ok,
    ];
}
