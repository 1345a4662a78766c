// Formats and reads dates for ever.
// ends: fuel, timeout
function handle() {
    for (let i = 0; ; i++) Date.parse(new Date(i * 1e9).toISOString());
}
