// Changes one document without end.
// ends: quota, timeout
function handle() {
    const { content } = create("flood-one", { n: 0 });
    for (let n = 0; ; n++) update("flood-one", content.id, { n });
}
