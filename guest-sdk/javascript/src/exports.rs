//! What the host calls to prepare a function: plain core exports beside the world, since the world is about running.
//!
//! Memory that is passed in is allocated with `cabi_realloc` and belongs to the engine from then on. An answer is three
//! little-endian `u32`: tag (0: success, 1: the text of an error), pointer and length. It stays valid as long as the instance.

use crate::{compile, load};

#[repr(C)]
struct Answer {
    tag: u32,
    pointer: *const u8,
    length: usize,
}

/// Compiles `source`; the answer is bytecode for [`thimble_load`]. `name` stands in the positions of errors.
#[unsafe(no_mangle)]
unsafe extern "C" fn thimble_compile(
    name: *mut u8,
    name_length: usize,
    source: *mut u8,
    source_length: usize,
) -> *const Answer {
    // SAFETY: the host allocated both with `cabi_realloc` and gives them away.
    let (name, source) = unsafe { (owned(name, name_length), owned(source, source_length)) };
    answer(compile::compile(name, source))
}

/// Evaluates what [`thimble_compile`] answered and finds `handle`; the answer is
/// `{"parameters": handle.length, "impure": whether the top level read clock or randomness}`.
///
/// With `deferred` nothing is evaluated now: each call of `handle` does so first, because the result must not be frozen.
#[unsafe(no_mangle)]
unsafe extern "C" fn thimble_load(bytecode: *mut u8, length: usize, deferred: u32) -> *const Answer {
    // SAFETY: the host allocated it with `cabi_realloc` and gives it away; the content is what `thimble_compile` answered.
    let bytecode = unsafe { owned(bytecode, length) };
    let report = match deferred {
        0 => unsafe { load::load(bytecode) },
        _ => Ok(load::defer(bytecode)),
    };
    answer(report.map(|report| format!(r#"{{"parameters":{},"impure":{}}}"#, report.parameters, report.impure).into_bytes()))
}

/// # Safety
/// `pointer` is a block of `length` bytes from `cabi_realloc` with alignment 1.
unsafe fn owned(pointer: *mut u8, length: usize) -> Vec<u8> {
    if length == 0 {
        return Vec::new();
    }
    unsafe { Vec::from_raw_parts(pointer, length, length) }
}

/// Leaks the answer: the instance is dropped once the host has read it.
fn answer(result: Result<Vec<u8>, String>) -> *const Answer {
    let (tag, bytes) = match result {
        Ok(bytes) => (0, bytes),
        Err(text) => (1, text.into_bytes()),
    };
    let bytes = bytes.leak();
    Box::leak(Box::new(Answer { tag, pointer: bytes.as_ptr(), length: bytes.len() }))
}
