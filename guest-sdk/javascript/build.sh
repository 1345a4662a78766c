#!/bin/sh
# Builds the JavaScript engine and bakes it into engine.wasm, which is committed: a server needs no wasm toolchain.
#
#     build.sh           builds engine.wasm and engine.sources (the hash of what it was built from)
#     build.sh --check   only says whether engine.wasm was built from the sources as they are
#
# Either of two toolchains will do:
# - rustup: `rustup target add wasm32-wasip1`, and WASI_SDK set to the folder of a wasi-sdk (for QuickJS, which is C);
# - Debian's: `apt-get install rustc-web cargo-web rust-web-src clang-19 llvm-19 lld-19 libclang1-19 wasi-libc`.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"

# Not `--package thimble-bake`: cargo would then choose fewer features of its dependencies, and compile wasmtime once more.
bake() {
    (cd ../.. && cargo run --quiet --bin thimble-bake -- "$@")
}

if [ "${1:-}" = --check ]; then
    bake check "$here"
    exit
fi

target=wasm32-wasip1
export CARGO_TARGET_DIR="$here/target"

if [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] && [ -n "${WASI_SDK:-}" ]; then
    cargo build --release --locked --target $target
elif [ -x /usr/bin/wasm-ld-19 ] && [ -d /usr/include/wasm32-wasi ] && /usr/bin/rustc --version >/dev/null 2>&1; then
    # Debian ships no library for this target, so it is built from source with the compiler, which RUSTC_BOOTSTRAP permits.
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RQUICKJS_SYS_NO_WASI_SDK=1
    export CC_wasm32_wasip1=clang-19 AR_wasm32_wasip1=llvm-ar-19
    export CFLAGS_wasm32_wasip1="--target=wasm32-wasi -isystem /usr/include/wasm32-wasi -D_WASI_EMULATED_SIGNAL -O3"
    export BINDGEN_EXTRA_CLANG_ARGS="-isystem /usr/include/wasm32-wasi --target=wasm32-wasi"
    export LIBCLANG_PATH=/usr/lib/llvm-19/lib
    export RUSTFLAGS="-Clinker=/usr/bin/wasm-ld-19 -Clink-self-contained=no -L/usr/lib/wasm32-wasi -Clink-arg=-lc"
    /usr/bin/cargo build --release --locked --target $target -Zbuild-std=std,panic_abort
else
    echo "no toolchain for $target. With rustup: 'rustup target add $target', and WASI_SDK set to a wasi-sdk." >&2
    echo "On Debian: 'apt-get install rustc-web cargo-web rust-web-src clang-19 llvm-19 lld-19 libclang1-19 wasi-libc'." >&2
    exit 1
fi
unset CARGO_TARGET_DIR RUSTC RUSTC_BOOTSTRAP RUSTFLAGS

bake build "$here" "$here/target/$target/release/thimble_javascript_engine.wasm"
