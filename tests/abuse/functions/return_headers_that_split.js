// Returns headers that would split the response.
// ends: ok
function handle() {
    return { status: 200, headers: { "X-A": "1\r\nX-Forged: 1", "X B": "2", "Content-Length": "1", "Transfer-Encoding": "chunked", "": "x" }, body: "b" };
}
