// Returns a redirect to a script, with a cookie.
// ends: ok
function handle() {
    return { status: 302, headers: { Location: "javascript:alert(1)", "Set-Cookie": "token=owned" }, body: "<script>alert(1)</script>" };
}
