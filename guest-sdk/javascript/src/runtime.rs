//! The one QuickJS runtime of an instance: made while baking, used by everything else.

use std::{cell::OnceCell, ffi::CStr};

use javy::{Config, Runtime};

use crate::{
    clock, console, errors, host_functions, lookup, memory,
    quickjs::{Ctx, Function, Object, Result, Value, function::IntoJsFunc, qjs},
    random, rejections,
};

/// Bytes after which QuickJS looks for cycles. javy's default is never.
const GC_THRESHOLD: usize = 2 << 20;

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

/// Makes the runtime and every global.
pub fn initialize() {
    memory::arm();
    // Rust's hash maps take their keys on first use: now, so that no run waits for them or counts as reading randomness.
    // The maps of rquickjs hold its own types only, so nobody profits from knowing the keys.
    let _ = std::hash::RandomState::new();
    with(|ctx| if let Err(error) = globals(&ctx) { fail(&errors::text(&ctx, error)) });
}

/// Runs `f` on the runtime.
pub fn with<R>(f: impl FnOnce(Ctx<'_>) -> R) -> R {
    RUNTIME.with(|cell| cell.get_or_init(make).context().with(f))
}

fn make() -> Runtime {
    let mut config = Config::default();
    // The limit of memory is that of the allocator, which leaves room to tell of it.
    config.gc_threshold(GC_THRESHOLD).text_encoding(true).weak_ref(true);
    Runtime::new(config).unwrap_or_else(|error| fail(&error.to_string()))
}

/// Ends baking: there is no engine without its globals.
fn fail(message: &str) -> ! {
    crate::world::thimble::functions::log::log(crate::world::thimble::functions::log::Level::Error, message);
    std::process::abort()
}

fn globals(ctx: &Ctx<'_>) -> Result<()> {
    let globals = ctx.globals();
    // SAFETY: the context is alive; both only add properties to its global object.
    unsafe {
        qjs::JS_AddIntrinsicDOMException(ctx.as_raw().as_ptr());
        qjs::JS_AddIntrinsicAToB(ctx.as_raw().as_ptr());
    }
    // javy defines these two as a script would; built-ins do not show when one lists the global object.
    for name in [c"TextEncoder", c"TextDecoder"] {
        define(&globals, name, globals.get(name.to_str().unwrap_or_default())?)?;
    }
    crate::compile::refuse_imports(ctx);
    rejections::track(ctx);
    console::register(ctx, &globals)?;
    random::register(ctx, &globals)?;
    clock::register(ctx, &globals)?;
    lookup::register(ctx)?;
    host_functions::register(ctx, &globals)
}

/// Defines a property as the built-in ones are: writable and configurable, not enumerable. A script may declare a variable of
/// the same name.
pub fn define<'js>(object: &Object<'js>, name: &CStr, value: Value<'js>) -> Result<()> {
    define_with(object, name, value, qjs::JS_PROP_CONFIGURABLE | qjs::JS_PROP_WRITABLE)
}

/// Defines a property as an object literal does, whatever a script has done to the object's prototype.
pub fn put<'js>(object: &Object<'js>, name: &CStr, value: Value<'js>) -> Result<()> {
    define_with(object, name, value, qjs::JS_PROP_C_W_E)
}

fn define_with<'js>(object: &Object<'js>, name: &CStr, value: Value<'js>, flags: u32) -> Result<()> {
    let context = object.ctx().as_raw().as_ptr();
    // SAFETY: object and value live in the same context; the value's reference is given away.
    let defined = unsafe {
        let raw = value.as_raw();
        std::mem::forget(value);
        qjs::JS_DefinePropertyValueStr(context, object.as_value().as_raw(), name.as_ptr(), raw, flags as i32)
    };
    if defined < 0 { Err(crate::quickjs::Error::Exception) } else { Ok(()) }
}

/// Defines a function with its name and its number of parameters.
pub fn define_function<'js, P>(
    object: &Object<'js>,
    name: &CStr,
    parameters: usize,
    function: impl IntoJsFunc<'js, P> + 'js,
) -> Result<()> {
    let label = name.to_str().unwrap_or_default();
    let function = Function::new(object.ctx().clone(), function)?.with_name(label)?.with_length(parameters)?;
    define(object, name, function.into_inner().into_value())
}

/// Defines a property that is read by calling a function, and that cannot be set.
pub fn define_getter<'js, P>(
    object: &Object<'js>,
    name: &CStr,
    getter: impl IntoJsFunc<'js, P> + 'js,
) -> Result<()> {
    let flags = qjs::JS_PROP_ENUMERABLE as i32;
    let context = object.ctx().as_raw().as_ptr();
    let getter = Function::new(object.ctx().clone(), getter)?.into_inner().into_value();
    // SAFETY: the getter's reference is given away, the atom is freed.
    let defined = unsafe {
        let raw = getter.as_raw();
        std::mem::forget(getter);
        let atom = qjs::JS_NewAtom(context, name.as_ptr());
        let defined = qjs::JS_DefinePropertyGetSet(context, object.as_value().as_raw(), atom, raw, qjs::JS_UNDEFINED, flags);
        qjs::JS_FreeAtom(context, atom);
        defined
    };
    if defined < 0 { Err(crate::quickjs::Error::Exception) } else { Ok(()) }
}

/// Runs promise jobs until none is left. What a job throws is logged: nobody else could learn of it.
pub fn run_jobs(ctx: &Ctx<'_>) {
    // SAFETY: the runtime is alive, and so is the context it may write to `job_context`.
    let runtime = unsafe { qjs::JS_GetRuntime(ctx.as_raw().as_ptr()) };
    loop {
        let mut job_context = std::ptr::null_mut();
        match unsafe { qjs::JS_ExecutePendingJob(runtime, &mut job_context) } {
            0 => return,
            failed if failed < 0 => rejections::log(&ctx.catch()),
            _ => {}
        }
    }
}
