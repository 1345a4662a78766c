// A regular expression whose counts multiply.
// ends: error, memory, fuel, timeout, ok
function handle() {
    return new RegExp("(((((((a{1000}){1000}){1000}){1000}){1000}){1000}){1000})").test("a");
}
