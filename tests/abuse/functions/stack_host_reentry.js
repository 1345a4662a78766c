// A document whose `toJSON` stores itself.
// ends: stack, quota
function handle() {
    const document = { toJSON: () => create("again", document) };
    return create("again", document).ok;
}
