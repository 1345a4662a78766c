// Keeps every chat message. A client sends `chan_in` to a channel, everybody in it receives `chan_out`, and this function
// runs for each of those as the user who sent it: the document belongs to the sender, whatever its `from` claims.
function handle(body) {
  log(body);

  let msg;
  try {
    msg = JSON.parse(body.data);
    msg.sentOn = new Date();
  } catch (error) {
    log(`not stored, because the data is not a JSON object: ${error.message}`);
    return;
  }

  // `_774_`: everyone who is signed in may read the messages, and only the sender's account may change them.
  const res = create("msgs_774_", msg);
  if (res.ok) {
    log(`stored as ${res.content.id}`);
  } else {
    log(`not stored: ${res.content}`);
  }
}
