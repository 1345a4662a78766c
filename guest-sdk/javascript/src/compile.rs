//! Source to bytecode.
//!
//! What parses as a script is one, and runs as sloppy code; anything else is tried as a module. (`JS_DetectModule` asks the
//! other way round, so that nearly every script would count as a module: strict, and with a `handle` that nobody can see.)

use std::ffi::{CStr, CString, c_char, c_void};

use crate::{
    errors, json,
    quickjs::{Ctx, Value, qjs},
    runtime,
};

/// First byte of the bytecode: what the rest is.
pub const SCRIPT: u8 = b's';
/// See [`SCRIPT`].
pub const MODULE: u8 = b'm';

/// Compiles a function's source; the error has its position in `name`.
pub fn compile(name: Vec<u8>, source: Vec<u8>) -> Result<Vec<u8>, String> {
    let name = CString::new(name).map_err(|_| "the name of the function holds a zero byte".to_string())?;
    let length = source.len();
    let mut source = source;
    source.push(0); // QuickJS wants a zero behind the end
    let parse = |ctx: &Ctx<'_>, kind: u32| {
        let flags = (kind | qjs::JS_EVAL_FLAG_COMPILE_ONLY) as i32;
        // SAFETY: the source holds `length` bytes and a zero; compiling runs nothing.
        let compiled = unsafe {
            let compiled = qjs::JS_Eval(ctx.as_raw().as_ptr(), source.as_ptr().cast(), length as _, name.as_ptr(), flags);
            json::from_raw(ctx, compiled)
        };
        compiled.map_err(|error| errors::text(ctx, error)).and_then(|compiled| write(ctx, &compiled))
    };
    runtime::with(|ctx| {
        let (kind, bytecode) = match parse(&ctx, qjs::JS_EVAL_TYPE_GLOBAL) {
            Ok(bytecode) => (SCRIPT, bytecode),
            Err(as_script) => match parse(&ctx, qjs::JS_EVAL_TYPE_MODULE) {
                Ok(bytecode) => (MODULE, bytecode),
                // It was meant to be what it was longer valid as.
                Err(as_module) if position(&as_module, &name) >= position(&as_script, &name) => return Err(as_module),
                Err(_) => return Err(as_script),
            },
        };
        let mut blob = vec![kind];
        blob.extend(bytecode);
        Ok(blob)
    })
}

/// Keeps lines and columns for stack traces, and leaves the source out: `toString` of a function shows no body, which saves
/// most of what a small function adds to the engine's memory.
fn write(ctx: &Ctx<'_>, compiled: &Value<'_>) -> Result<Vec<u8>, String> {
    let flags = (qjs::JS_WRITE_OBJ_BYTECODE | qjs::JS_WRITE_OBJ_STRIP_SOURCE) as i32;
    let context = ctx.as_raw().as_ptr();
    let mut length = 0;
    // SAFETY: on success QuickJS returns `length` bytes, which are freed after the copy.
    unsafe {
        let bytes = qjs::JS_WriteObject(context, &mut length, compiled.as_raw(), flags);
        if bytes.is_null() {
            return Err(errors::describe(&ctx.catch()));
        }
        let copy = std::slice::from_raw_parts(bytes, length as usize).to_vec();
        qjs::js_free(context, bytes.cast::<c_void>());
        Ok(copy)
    }
}

/// Line and column in the text of an error. An error without a position, as that of an import, comes after all others: the
/// source was parsed to its end.
fn position(error: &str, name: &CStr) -> (u32, u32) {
    let name = name.to_string_lossy();
    let Some((_, position)) = error.rsplit_once(&format!("at {name}:")) else { return (u32::MAX, 0) };
    let mut numbers = position.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Answers every `import` with an error that says why.
pub fn refuse_imports(ctx: &Ctx<'_>) {
    // SAFETY: the loader only throws.
    unsafe {
        let runtime = qjs::JS_GetRuntime(ctx.as_raw().as_ptr());
        qjs::JS_SetModuleLoaderFunc(runtime, None, Some(refuse_import), std::ptr::null_mut());
    }
}

unsafe extern "C" fn refuse_import(
    ctx: *mut qjs::JSContext,
    name: *const c_char,
    _: *mut c_void,
) -> *mut qjs::JSModuleDef {
    const WHY: &CStr = c"cannot import '%s': a function is one file, and there is nothing it could import";
    // SAFETY: both strings end in zero, and the format takes one string.
    unsafe { qjs::JS_ThrowReferenceError(ctx, WHY.as_ptr(), name) };
    std::ptr::null_mut()
}
