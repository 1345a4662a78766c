// Runs before a task is stored, as whoever stores it: `document` is what would be stored, and what is returned is stored instead.
function handle(document) {
  const title = typeof document.title === "string" ? document.title.trim() : "";
  if (title === "") {
    throw new Error("a task needs a title");
  }
  // One of each title. Whoever adds the same one at the same moment is refused as well: what is read here is looked at again
  // when the task is stored, and this function runs once more if it has changed.
  const same = query("tasks", [["title", "==", title]]);
  if (!same.ok) {
    throw new Error(same.content);
  }
  if (same.content.total > 0) {
    return { status: 409, body: `there is a task "${title}" already` };
  }
  return { ...document, title, done: document.done === true };
}
