// Replaces within a replacement.
// ends: stack
function handle() {
    const again = () => "a".replace(/a/, again) + "a";
    return again();
}
