//! Sets the size of the engine's own stack, which lies first in its memory.

/// So large that wasmtime's stack (4 MiB in the host) is full first, also with functions of many variables: the overflow is then
/// a clean trap. A plain recursive function needs 304 bytes of this stack for each call, and 8 for each further variable.
const STACK_BYTES: u32 = 4 << 20;

fn main() {
    println!("cargo::rustc-link-arg=-zstack-size={STACK_BYTES}");
    println!("cargo::rerun-if-changed=build.rs");
}
