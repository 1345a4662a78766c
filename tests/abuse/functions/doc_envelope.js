// Documents that claim an id, an account and an owner.
// ends: ok
function handle() {
    const made = create("claimed", { id: "mine", accountId: "theirs", ownerId: "root", sb_created: 0 }).content;
    const changed = update("claimed", made.id, { id: "other", accountId: "theirs" }).content;
    return [made.id !== "mine", made.accountId !== "theirs", changed.id === made.id, changed.accountId === made.accountId];
}
