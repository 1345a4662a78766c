//! What evaluating a function's top level changed in the engine's memory, as a core module that does it again.
//!
//! The module imports the engine's memory; its start function grows it and copies the changed parts in. Growing must come
//! before copying, so the data segments are passive.

use wasm_encoder::{
    CodeSection, DataCountSection, DataSection, EntityType, Function, FunctionSection, ImportSection, MemoryType,
    Module, StartSection, TypeSection,
};

/// Name under which the delta imports the engine's instance.
pub const ENGINE: &str = "engine";

/// Memory is compared in blocks of this many bytes.
const BLOCK: usize = 256;

/// Changed blocks this close are joined: a segment costs more than the bytes between.
const GAP: usize = 512;

const PAGE: usize = 1 << 16;

/// The ranges of `after` that differ from `base`; what lies beyond the end of `base` was zero.
///
/// `dead` is the range of the stack: it holds nothing that anybody reads again.
pub fn changed_ranges(base: &[u8], after: &[u8], dead: std::ops::Range<usize>) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    let mut start = dead.end.min(after.len());
    debug_assert_eq!(dead.start, 0, "the stack lies first in memory");
    while start < after.len() {
        let end = (start + BLOCK).min(after.len());
        let block = &after[start..end];
        let same = match base.get(start..end) {
            Some(before) => before == block,
            None => block.iter().enumerate().all(|(i, byte)| *byte == base.get(start + i).copied().unwrap_or(0)),
        };
        if !same {
            match ranges.last_mut() {
                Some(last) if start - last.end <= GAP => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        start = end;
    }
    ranges
}

/// The module that turns a memory that equals `base` into `after`, outside of `dead`.
pub fn module(base: &[u8], after: &[u8], dead: std::ops::Range<usize>) -> Vec<u8> {
    let ranges = changed_ranges(base, after, dead);
    let pages = |bytes: usize| (bytes / PAGE) as u64;

    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    let memory =
        MemoryType { minimum: pages(base.len()), maximum: None, memory64: false, shared: false, page_size_log2: None };
    imports.import(ENGINE, "memory", EntityType::Memory(memory));
    let mut functions = FunctionSection::new();
    functions.function(0);

    let mut copy = Function::new([]);
    let growth = pages(after.len()).saturating_sub(pages(base.len()));
    if growth > 0 {
        // A refused growth makes the first copy beyond the end trap, which is what should happen.
        copy.instructions().i32_const(growth as i32).memory_grow(0).drop();
    }
    let mut data = DataSection::new();
    for (segment, range) in ranges.iter().enumerate() {
        copy.instructions()
            .i32_const(range.start as i32)
            .i32_const(0)
            .i32_const(range.len() as i32)
            .memory_init(0, segment as u32);
        data.passive(after[range.clone()].iter().copied());
    }
    copy.instructions().end();
    let mut code = CodeSection::new();
    code.function(&copy);

    let mut module = Module::new();
    module
        .section(&types)
        .section(&imports)
        .section(&functions)
        .section(&StartSection { function_index: 0 })
        .section(&DataCountSection { count: ranges.len() as u32 })
        .section(&code)
        .section(&data);
    module.finish()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use proptest::prelude::*;
    use wasmtime::{Engine, Extern, Instance, Memory, MemoryType, Module, Store};

    use super::*;

    /// Runs the delta on a memory that holds `base`.
    fn applied(base: &[u8], delta: &[u8]) -> Vec<u8> {
        let engine = Engine::default();
        let mut store = Store::new(&engine, ());
        let memory = Memory::new(&mut store, MemoryType::new((base.len() / PAGE) as u32, None)).unwrap();
        memory.write(&mut store, 0, base).unwrap();
        let module = Module::new(&engine, delta).unwrap();
        Instance::new(&mut store, &module, &[Extern::Memory(memory)]).unwrap();
        memory.data(&store).to_vec()
    }

    #[test]
    fn nothing_changed_is_an_empty_delta() {
        let base = vec![7; PAGE];

        assert!(changed_ranges(&base, &base, 0..0).is_empty());
        assert_eq!(applied(&base, &module(&base, &base, 0..0)), base);
    }

    #[test]
    fn close_changes_are_one_range_and_far_ones_two() {
        let base = vec![0; PAGE];
        let mut after = base.clone();
        after[0] = 1;
        after[700] = 1;
        after[9_000] = 1;

        let ranges = changed_ranges(&base, &after, 0..0);

        assert_eq!(ranges, [0..768, 8_960..9_216]);
    }

    #[test]
    fn the_dead_stack_is_left_out() {
        let base = vec![0; PAGE];
        let mut after = base.clone();
        after[100] = 1;
        after[5_000] = 2;

        let result = applied(&base, &module(&base, &after, 0..4_096));

        assert_eq!((result[100], result[5_000]), (0, 2));
    }

    #[test]
    fn grown_memory_is_grown_again() {
        let base = vec![1; PAGE];
        let mut after = base.clone();
        after.resize(3 * PAGE, 0);
        after[2 * PAGE + 5] = 9;

        assert_eq!(applied(&base, &module(&base, &after, 0..0)), after);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_delta_makes_the_memory_again(
            changes in prop::collection::vec((0usize..2 * PAGE, any::<u8>()), 0..60),
            pages in 1usize..3,
        ) {
            let base: Vec<u8> = (0..PAGE).map(|i| (i * 31) as u8).collect();
            let mut after = base.clone();
            after.resize(pages * PAGE, 0);
            for (at, byte) in changes {
                if at < after.len() { after[at] = byte; }
            }

            prop_assert_eq!(applied(&base, &module(&base, &after, 0..0)), after);
        }
    }
}
