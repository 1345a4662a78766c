// Sorts a typed array so large that 32-bit sizes overflow (CVE-2026-120439).
// ends: ok, error, memory, fuel, timeout, stack
function handle() {
    const numbers = new Float64Array(5e6);
    for (let i = 0; i < numbers.length; i += 1000) numbers[i] = Math.sin(i);
    numbers.sort((a, b) => a - b);
    return numbers.length;
}
