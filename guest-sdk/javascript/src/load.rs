//! Bytecode to a function: evaluates the top level and finds `handle`.

use std::{cell::RefCell, hint::black_box};

use crate::{
    compile, errors, json,
    phase::{self, Phase},
    quickjs::{Ctx, Function, Persistent, Result, Value, atom::PredefinedAtom, qjs},
    rejections, runtime,
};

/// What the host is told of a function.
pub struct Report {
    /// `handle.length`.
    pub parameters: u32,
    /// The top level read clock or randomness.
    pub impure: bool,
}

enum Loaded {
    Function(Persistent<Function<'static>>),
    /// Bytecode whose top level is evaluated in every run.
    Bytecode(Vec<u8>),
}

thread_local! {
    static LOADED: RefCell<Option<Loaded>> = const { RefCell::new(None) };
}

/// Evaluates the top level now and keeps `handle`.
///
/// # Safety
/// The bytecode is what [`compile::compile`] answered: QuickJS does not check it.
pub unsafe fn load(mut bytecode: Vec<u8>) -> std::result::Result<Report, String> {
    runtime::with(|ctx| {
        let evaluated = unsafe { evaluate(&ctx, &bytecode) };
        // What is zero need not be part of the function's delta.
        bytecode.fill(0);
        drop(black_box(bytecode));
        let handle = evaluated?;
        let parameters = handle.get(PredefinedAtom::Length).unwrap_or(0);
        LOADED.set(Some(Loaded::Function(Persistent::save(&ctx, handle))));
        Ok(Report { parameters, impure: phase::impure() })
    })
}

/// Keeps the bytecode only. The host knows the number of parameters from the first load.
pub fn defer(bytecode: Vec<u8>) -> Report {
    LOADED.set(Some(Loaded::Bytecode(bytecode)));
    Report { parameters: 0, impure: true }
}

/// The loaded `handle`; evaluates the top level first where that was deferred.
pub fn handle<'js>(ctx: &Ctx<'js>) -> std::result::Result<Function<'js>, String> {
    LOADED.with_borrow(|loaded| match loaded {
        Some(Loaded::Function(handle)) => handle.clone().restore(ctx).map_err(|error| error.to_string()),
        // SAFETY: `defer` got it from the host, as `load` does.
        Some(Loaded::Bytecode(bytecode)) => unsafe { evaluate(ctx, bytecode) },
        None => Err("no function was loaded into this engine".into()),
    })
}

unsafe fn evaluate<'js>(ctx: &Ctx<'js>, bytecode: &[u8]) -> std::result::Result<Function<'js>, String> {
    phase::enter(Phase::Loading);
    let Some((kind, bytecode)) = bytecode.split_first() else { return Err("the bytecode is empty".into()) };
    let handle = unsafe {
        let code = qjs::JS_ReadObject(
            ctx.as_raw().as_ptr(),
            bytecode.as_ptr(),
            bytecode.len() as _,
            qjs::JS_READ_OBJ_BYTECODE as i32,
        );
        json::from_raw(ctx, code).and_then(|code| match *kind {
            compile::MODULE => module(ctx, code),
            _ => script(ctx, code),
        })
    };
    rejections::log_all();
    let handle = handle.map_err(|error| errors::text(ctx, error))??;
    handle.into_function().ok_or_else(|| "`handle` is not a function: declare `function handle(body) { … }`".into())
}

type Found<'js> = Result<std::result::Result<Value<'js>, String>>;

unsafe fn script<'js>(ctx: &Ctx<'js>, code: Value<'js>) -> Found<'js> {
    unsafe { run(ctx, code)? };
    runtime::run_jobs(ctx);
    // `const handle` is no property of the global object, so the name is looked up as the script would.
    const HANDLE: &str = "typeof handle === 'undefined' ? undefined : handle";
    let options = crate::quickjs::context::EvalOptions::default();
    let handle: Value<'js> = ctx.eval_with_options(HANDLE, options)?;
    Ok(if handle.is_undefined() {
        Err("there is no `handle`: declare `function handle(body) { … }` at the top level".into())
    } else {
        Ok(handle)
    })
}

unsafe fn module<'js>(ctx: &Ctx<'js>, code: Value<'js>) -> Found<'js> {
    let context = ctx.as_raw().as_ptr();
    // SAFETY: `code` is a module of this context, which owns it: the pointer stays valid.
    let module = unsafe { qjs::JS_VALUE_GET_PTR(code.as_raw()) };
    if unsafe { qjs::JS_ResolveModule(context, code.as_raw()) } < 0 {
        return Err(crate::quickjs::Error::Exception);
    }
    let evaluated = unsafe { run(ctx, code)? };
    runtime::run_jobs(ctx);
    if let Some(promise) = evaluated.as_promise() {
        match promise.result::<Value<'js>>() {
            Some(result) => result.map(drop)?,
            None => {
                return Ok(Err("the `await` at the top level never ends: nothing is left that could resolve it".into()));
            }
        }
    }
    let exports = unsafe { json::from_raw(ctx, qjs::JS_GetModuleNamespace(context, module.cast()))? };
    let Some(exports) = exports.as_object() else { return Err(crate::quickjs::Error::Unknown) };
    for name in ["handle", "default"] {
        let export: Value<'js> = exports.get(name)?;
        if !export.is_undefined() {
            return Ok(Ok(export));
        }
    }
    Ok(Err("the module exports no `handle`: write `export` before `function handle`, or use `export default`".into()))
}

/// Runs compiled code.
unsafe fn run<'js>(ctx: &Ctx<'js>, code: Value<'js>) -> Result<Value<'js>> {
    let raw = code.as_raw();
    // `JS_EvalFunction` takes the reference over.
    std::mem::forget(code);
    unsafe { json::from_raw(ctx, qjs::JS_EvalFunction(ctx.as_raw().as_ptr(), raw)) }
}
