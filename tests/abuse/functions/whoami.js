// Says as whom it runs, and what it may do.
// ends: ok
function handle() {
    const made = create("whoami", { n: 1 });
    const all = list("whoami");
    return { account: made.ok ? made.content.accountId : null, sees: all.ok ? all.content.total : null };
}
