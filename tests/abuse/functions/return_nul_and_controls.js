// Returns text with signs that end or break lines.
// ends: ok
function handle() {
    return "a\u0000b\u0007\u001b[31m\r\n\u2028\ufeff";
}
