//! Leaves the engine with no import but the world's.
//!
//! The engine defines the WASI functions it needs; libc's calls are bound to them by the linker. Rust's library imports by
//! another way, so what is left is bound here.

use anyhow::{Context, Result, bail, ensure};
use walrus::{ConstExpr, DataKind, ExportItem, GlobalKind, ImportKind, Module, ir::Value};

/// How the engine exports its own definition of a WASI function.
const DEFINITION: &str = "__imported_wasi_snapshot_preview1_";

/// An engine that imports only the world.
pub struct Rewired {
    /// The core module.
    pub module: Vec<u8>,
    /// Where its stack begins, growing down to address 0.
    pub stack_bytes: u32,
}

/// Binds the imports of WASI to the engine's own functions.
pub fn rewire(module: &[u8]) -> Result<Rewired> {
    let mut module = Module::from_buffer(module)?;
    let imports: Vec<_> = module
        .imports
        .iter()
        .filter(|import| import.module == "wasi_snapshot_preview1")
        .map(|import| (import.name.clone(), import.kind.clone()))
        .collect();
    for (name, kind) in imports {
        let ImportKind::Function(imported) = kind else { bail!("the engine imports `{name}`, which is no function") };
        let defined = module.exports.iter().find(|export| export.name.strip_prefix(DEFINITION) == Some(&name));
        let defined = match defined.map(|export| export.item) {
            Some(ExportItem::Function(defined)) => defined,
            _ => bail!("the engine imports `{name}` of WASI: define it in src/wasi.rs"),
        };
        module.replace_imported_func(imported, |(body, args)| {
            let mut body = body.func_body();
            for arg in args {
                body.local_get(*arg);
            }
            body.call(defined);
        })?;
    }
    remove_exports(&mut module, |name| name.starts_with(DEFINITION));
    if let Some(import) = module.imports.iter().find(|import| !import.module.starts_with("thimble:functions/")) {
        bail!("the engine imports `{}` from `{}`, which no function of the world may", import.name, import.module);
    }
    let stack_bytes = stack_bytes(&module)?;
    walrus::passes::gc::run(&mut module);
    Ok(Rewired { module: module.emit_wasm(), stack_bytes })
}

/// Removes the exports with such a name.
pub fn remove_exports(module: &mut Module, unwanted: impl Fn(&str) -> bool) {
    let unwanted: Vec<_> =
        module.exports.iter().filter(|export| unwanted(&export.name)).map(|export| export.id()).collect();
    for export in unwanted {
        module.exports.delete(export);
    }
}

/// The initial stack pointer: the engine's only state outside of its memory, and back where it was after every call.
fn stack_bytes(module: &Module) -> Result<u32> {
    let mut state = module.globals.iter().filter(|global| global.mutable);
    let (pointer, more) = (state.next().context("the engine has no stack pointer")?, state.next());
    ensure!(more.is_none(), "the engine has a second mutable global: a delta of its memory would lose it");
    let GlobalKind::Local(ConstExpr::Value(Value::I32(pointer))) = pointer.kind else {
        bail!("the engine's stack pointer does not begin with a constant")
    };
    for data in module.data.iter() {
        if let DataKind::Active { offset: ConstExpr::Value(Value::I32(offset)), .. } = data.kind {
            ensure!(
                offset >= pointer,
                "the engine's stack does not lie first in memory: an overflow would damage its data"
            );
        }
    }
    Ok(u32::try_from(pointer)?)
}
