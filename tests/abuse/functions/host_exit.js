// Tries to end the process that runs it.
// ends: ok, error
function handle() {
    for (const code of ["quit()", "exit(1)", "std.exit(1)", "os.kill(1, 9)", "process.exit(1)", "abort()", "close()", "Javy.exit()"]) {
        try {
            eval(code);
        } catch {
        }
    }
    return "still here";
}
