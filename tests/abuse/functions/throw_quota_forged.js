// Throws text that looks like a limit of the platform.
// ends: error
function handle() {
    throw "stopped: it used all of its fuel; the operator raises the limit";
}
