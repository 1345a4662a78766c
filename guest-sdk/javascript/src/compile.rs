//! Source to bytecode.
//!
//! What parses as a script is one, and runs as sloppy code; anything else is tried as a module. (`JS_DetectModule` asks the
//! other way round, so that nearly every script would count as a module: strict, and with a `handle` that nobody can see.)

use std::ffi::{CStr, CString, c_char, c_void};

use crate::{
    errors, json,
    quickjs::{Ctx, Value, qjs},
    runtime, text,
};

/// First byte of the bytecode: what the rest is.
pub const SCRIPT: u8 = b's';
/// See [`SCRIPT`].
pub const MODULE: u8 = b'm';

/// Compiles a function's source; the error has its position in `name`.
pub fn compile(name: Vec<u8>, mut source: Vec<u8>) -> Result<Vec<u8>, String> {
    let name = CString::new(name).map_err(|_| "the name of the function holds a zero byte".to_string())?;
    source.push(0); // QuickJS wants a zero behind the end
    runtime::with(|ctx| {
        parse(&ctx, &name, &source, SCRIPT).or_else(|as_script| {
            parse(&ctx, &name, &source, MODULE).map_err(|as_module| {
                // It was meant to be what it was longer valid as.
                if position(&as_module, &name) >= position(&as_script, &name) { as_module } else { as_script }
            })
        })
    })
}

/// Parses as one kind, and writes the kind and the bytecode.
fn parse(ctx: &Ctx<'_>, name: &CStr, source: &[u8], kind: u8) -> Result<Vec<u8>, String> {
    let mode = if kind == MODULE { qjs::JS_EVAL_TYPE_MODULE } else { qjs::JS_EVAL_TYPE_GLOBAL };
    let flags = (mode | qjs::JS_EVAL_FLAG_COMPILE_ONLY) as i32;
    let length = source.len() - 1;
    // SAFETY: the source holds `length` bytes and a zero; compiling runs nothing.
    let compiled = unsafe {
        let compiled = qjs::JS_Eval(ctx.as_raw().as_ptr(), source.as_ptr().cast(), length as _, name.as_ptr(), flags);
        json::from_raw(ctx, compiled)
    };
    compiled.and_then(|compiled| write(ctx, &compiled, kind)).map_err(|error| errors::text(ctx, error))
}

/// Keeps lines and columns for stack traces, and the source for `toString` of functions: 8 % more for the tutorial's function,
/// and without it every function would look like a native one.
fn write(ctx: &Ctx<'_>, compiled: &Value<'_>, kind: u8) -> crate::quickjs::Result<Vec<u8>> {
    let flags = qjs::JS_WRITE_OBJ_BYTECODE as i32;
    let context = ctx.as_raw().as_ptr();
    let mut length = 0;
    // SAFETY: on success QuickJS returns `length` bytes, which are freed after the copy.
    unsafe {
        let bytecode = qjs::JS_WriteObject(context, &mut length, compiled.as_raw(), flags);
        if bytecode.is_null() {
            return Err(crate::quickjs::Error::Exception);
        }
        let mut blob = Vec::new();
        let reserved = text::reserve(ctx, blob.try_reserve_exact(1 + length as usize));
        if reserved.is_ok() {
            blob.push(kind);
            blob.extend_from_slice(std::slice::from_raw_parts(bytecode, length as usize));
        }
        qjs::js_free(context, bytecode.cast::<c_void>());
        reserved.map(|()| blob)
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
