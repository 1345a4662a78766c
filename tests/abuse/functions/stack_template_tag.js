// A template that is tagged by itself.
// ends: stack
function tag() {
    return tag`x${1}` + 1;
}
function handle() {
    return tag``;
}
