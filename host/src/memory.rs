//! Gives memory back to the system that the process has freed.
//!
//! glibc keeps what is freed in the middle of its heaps, and after a flood of large documents that may be hundreds of megabytes
//! for as long as the server runs. Elsewhere the allocator is left to itself.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often is looked how much there is.
const LOOK: Duration = Duration::from_secs(5);

/// A change by so much says that memory is being taken and freed.
const MUCH: u64 = 16 << 20;

/// Looks after such a change at which what was freed meanwhile is given back. A server that rests does nothing.
const AFTER: u32 = 12;

/// Gives memory back now and then until `stop`.
pub async fn give_back(stop: CancellationToken) {
    let (mut before, mut at_rest) = (resident(), 0_u32);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        at_rest = if resident().abs_diff(before) > MUCH { 0 } else { at_rest.saturating_add(1) };
        if at_rest > AFTER {
            continue;
        }
        // Not on a thread that serves sockets: it goes through all heaps.
        if tokio::task::spawn_blocking(trim).await.is_err() {
            return;
        }
        before = resident();
    }
}

/// Bytes of memory that are in use; none where that is not known.
fn resident() -> u64 {
    const PAGE: u64 = 4 << 10;
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or_default() * PAGE
}

fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time, from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
