//! `memset` for QuickJS, in place of libc's.
//!
//! libc's is a loop, and fuel counts its steps: a script that makes large buffers would run out of fuel by zeroing them. One
//! instruction does the same, and costs next to nothing.

/// From this many bytes on the instruction is faster than the loop: it is a call out of the sandbox's code.
const LARGE: usize = 512;

/// # Safety
///
/// As libc's: `count` bytes from `start` can be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(start: *mut u8, byte: i32, count: usize) -> *mut u8 {
    let byte = byte as u8;
    if count >= LARGE {
        // SAFETY: the caller's promise. With bulk memory this is `memory.fill`, not a call of this function.
        unsafe { core::ptr::write_bytes(start, byte, count) };
        return start;
    }
    let word = u64::from_ne_bytes([byte; 8]);
    let mut at = 0;
    // SAFETY: within `count`, and words only where they are aligned. Volatile, or the compiler would see a memset in it and
    // call this function.
    unsafe {
        while at < count && !(start as usize + at).is_multiple_of(8) {
            start.add(at).write_volatile(byte);
            at += 1;
        }
        while at + 8 <= count {
            start.add(at).cast::<u64>().write_volatile(word);
            at += 8;
        }
        while at < count {
            start.add(at).write_volatile(byte);
            at += 1;
        }
    }
    start
}
