// Documents that are no objects.
// ends: ok
function handle() {
    return [1, "text", null, undefined, [1], true, NaN, () => 1, Symbol("s"), new Date(0), new String("x")].map((value) => {
        try {
            return create("weird", value).ok;
        } catch (error) {
            return error.name;
        }
    });
}
