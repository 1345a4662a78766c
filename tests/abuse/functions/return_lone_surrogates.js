// Returns text that is not Unicode, as value and as name.
// ends: ok
function handle() {
    return { "a\ud800": "\udc00b", c: ["\ud800\ud800"] };
}
