// Every match of a text of a megabyte, with its groups.
// ends: memory, ok, fuel, timeout
function handle() {
    return [..."ab".repeat(5e5).matchAll(/(a)(b)/g)].length;
}
