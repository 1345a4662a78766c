// Makes every result a response.
// ends: ok, error
function handle() {
    Object.defineProperty(Object.prototype, "status", { value: 201, enumerable: true });
    Object.defineProperty(Object.prototype, "body", { value: "x", enumerable: true });
    log("done");
    return { a: 1 };
}
