//! `transactions`: `transaction(closure)`, the one host function that calls back. Beginning and ending are here; when to do so,
//! and how often, stands in `transaction.js`, because a closure may be asynchronous.

use std::cell::RefCell;

use super::needs_a_run;
use crate::{
    quickjs::{
        Ctx, Error, Exception, Function, IntoJs, Object, Result, Value, context::EvalOptions,
    },
    runtime,
    world::thimble::functions::{transactions::Transaction, types},
};

const SOURCE: &str = include_str!("transaction.js");

thread_local! {
    /// The one that is open.
    static OPEN: RefCell<Option<Transaction>> = const { RefCell::new(None) };
}

/// Defines the global `transaction`.
pub fn register<'js>(ctx: &Ctx<'js>, globals: &Object<'js>) -> Result<()> {
    let mut options = EvalOptions::default();
    options.filename = Some("transaction".into());
    let make: Function<'js> = ctx.eval_with_options(SOURCE, options)?;
    let begin = Function::new(ctx.clone(), begin)?.with_name("begin")?;
    let commit = Function::new(ctx.clone(), commit)?.with_name("commit")?;
    let give_up = Function::new(ctx.clone(), || drop(OPEN.take()))?.with_name("giveUp")?;
    let transaction: Value<'js> = make.call((begin, commit, give_up))?;
    runtime::define(globals, c"transaction", transaction)
}

fn begin(ctx: Ctx<'_>) -> Result<()> {
    needs_a_run(&ctx, "transaction")?;
    OPEN.set(Some(Transaction::begin().map_err(|error| thrown(&ctx, error))?));
    Ok(())
}

/// Whether it is committed; with `again`, a conflict is none of it and no error.
fn commit(ctx: Ctx<'_>, again: bool) -> Result<bool> {
    let Some(transaction) = OPEN.take() else { return Ok(true) };
    match Transaction::commit(transaction) {
        Ok(()) => Ok(true),
        Err(error) if again && error.code == "conflict" => Ok(false),
        Err(error) => Err(thrown(&ctx, error)),
    }
}

/// Throws an `Error` with a `code`.
fn thrown(ctx: &Ctx<'_>, error: types::Error) -> Error {
    let exception = || {
        let exception = Exception::from_message(ctx.clone(), &error.message)?;
        runtime::put(exception.as_object(), c"code", error.code.into_js(ctx)?)?;
        Ok(exception)
    };
    match exception() {
        Ok(exception) => exception.throw(),
        Err(error) => error,
    }
}
