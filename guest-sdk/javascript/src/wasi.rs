//! The functions of WASI that libc and Rust's library would import. Defined here, so the engine imports nothing but the world:
//! no files, no environment, and a clock and randomness that the host decides.
//!
//! The names are the linker's: libc declares its imports with them. What Rust's library imports by another way, `bake/` rewires
//! to these.

use crate::{clock, world::thimble::functions::random};

/// WASI's number for "no such file descriptor".
const BAD_DESCRIPTOR: i32 = 8;

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_environ_get(_: i32, _: i32) -> i32 {
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __imported_wasi_snapshot_preview1_environ_sizes_get(count: *mut usize, bytes: *mut usize) -> i32 {
    // SAFETY: libc passes pointers it may write to.
    unsafe { (*count, *bytes) = (0, 0) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __imported_wasi_snapshot_preview1_clock_time_get(_: i32, _: i64, time: *mut u64) -> i32 {
    // SAFETY: as above.
    unsafe { *time = clock::now() };
    0
}

/// Only Rust's hash maps ask for it, never a script: it does not count as reading randomness.
#[unsafe(no_mangle)]
unsafe extern "C" fn __imported_wasi_snapshot_preview1_random_get(bytes: *mut u8, length: usize) -> i32 {
    // SAFETY: as above.
    let bytes = unsafe { std::slice::from_raw_parts_mut(bytes, length) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random::random().to_le_bytes()[..chunk.len()]);
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_close(_: i32) -> i32 {
    BAD_DESCRIPTOR
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_fdstat_get(_: i32, _: i32) -> i32 {
    BAD_DESCRIPTOR
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_prestat_get(_: i32, _: i32) -> i32 {
    BAD_DESCRIPTOR
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_prestat_dir_name(_: i32, _: i32, _: i32) -> i32 {
    BAD_DESCRIPTOR
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_seek(_: i32, _: i64, _: i32, _: i32) -> i32 {
    BAD_DESCRIPTOR
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_write(_: i32, _: i32, _: i32, _: i32) -> i32 {
    BAD_DESCRIPTOR
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_proc_exit(_: i32) -> ! {
    core::arch::wasm32::unreachable()
}
