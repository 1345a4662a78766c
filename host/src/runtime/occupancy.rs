//! How much of the engine's room is in use, for whoever operates the server.

use super::Runtime;

/// What is in use at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Memories of instances there can be at once.
    pub memories: u64,
    /// Those in use.
    pub memories_used: u64,
    /// Those that were used before and are kept for the next run.
    pub memories_warm: u64,
    /// Bytes that are kept in these.
    pub memories_warm_bytes: u64,
}

impl Runtime {
    /// Looks at it.
    pub fn occupancy(&self) -> Occupancy {
        let inner = &self.0;
        // Ours is a pooling engine, which has these.
        let pool = inner.engine.pooling_allocator_metrics();
        let of_pool = |figure: fn(&wasmtime::PoolingAllocatorMetrics) -> usize| pool.as_ref().map_or(0, figure) as u64;
        Occupancy {
            memories: u64::from(inner.memories),
            memories_used: of_pool(|pool| pool.memories()),
            memories_warm: of_pool(|pool| pool.unused_warm_memories() as usize),
            memories_warm_bytes: of_pool(|pool| pool.unused_memory_bytes_resident()),
        }
    }
}
