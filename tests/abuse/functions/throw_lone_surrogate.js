// Throws text that is not Unicode.
// ends: error
function handle() {
    throw new Error("lone \ud800 surrogate \udfff");
}
