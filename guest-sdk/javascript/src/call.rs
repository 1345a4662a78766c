//! One call of `handle`: arguments in, result or the text of an error out.

use crate::{
    clock, errors, json, load, lookup,
    phase::{self, Phase},
    quickjs::{Ctx, Error, Function, Promise, Result, Value, function::Args, promise::PromiseState},
    random, rejections, runtime,
    world::thimble::functions::event,
};

/// Calls the loaded `handle`.
pub fn handle(args: Vec<String>) -> std::result::Result<Option<String>, String> {
    random::forget_seed();
    clock::forget_origin();
    runtime::with(|ctx| {
        let handle = load::handle(&ctx)?;
        phase::enter(Phase::Running);
        let result = call(&ctx, &handle, args).and_then(|value| settle(&ctx, value));
        let result = match result {
            Ok(Ok(value)) => json_of(&ctx, &value),
            Ok(Err(text)) => Err(text),
            Err(error) => Err(errors::text(&ctx, error)),
        };
        rejections::log_all();
        result
    })
}

fn call<'js>(ctx: &Ctx<'js>, handle: &Function<'js>, args: Vec<String>) -> Result<Value<'js>> {
    let count = args.len();
    let web = count >= 2 && event::kind() == "web";
    let mut values = Args::new(ctx.clone(), count);
    for (index, arg) in args.into_iter().enumerate() {
        let value = json::parse(ctx, arg)?;
        if web && index + 2 >= count {
            lookup::attach(&value, index + 1 == count)?;
        }
        values.push_arg(value)?;
    }
    handle.call_arg(values)
}

/// Runs what is still to do; the value of a promise takes the promise's place.
fn settle<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Result<std::result::Result<Value<'js>, String>> {
    const NEVER: &str = "the promise that handle returned never settles: nothing is left that could resolve it";
    let promise = promised(ctx, &value)?;
    runtime::run_jobs(ctx);
    let Some(promise) = promise else { return Ok(Ok(value)) };
    match promise.state() {
        PromiseState::Pending => Ok(Err(NEVER.into())),
        state => {
            if state == PromiseState::Rejected {
                rejections::forget(promise.as_value());
            }
            promise.result().unwrap_or(Err(Error::Unknown)).map(Ok)
        }
    }
}

/// The promise to wait for. An object with a `then` counts, as it does for `await`.
fn promised<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<Option<Promise<'js>>> {
    if let Some(promise) = value.as_promise() {
        return Ok(Some(promise.clone()));
    }
    let Some(object) = value.as_object() else { return Ok(None) };
    let then: Value<'js> = object.get("then")?;
    if !then.is_function() {
        return Ok(None);
    }
    let (promise, resolve, _) = ctx.promise()?;
    resolve.call::<_, ()>((value.clone(),))?;
    Ok(Some(promise))
}

fn json_of(ctx: &Ctx<'_>, value: &Value<'_>) -> std::result::Result<Option<String>, String> {
    let json = json::stringify(value).and_then(|json| json.map(|json| json.to_owned()).transpose());
    json.map_err(|error| {
        let text = errors::text(ctx, error);
        if errors::is_out_of_memory(&text) { text } else { format!("what handle returned has no JSON: {text}") }
    })
}
