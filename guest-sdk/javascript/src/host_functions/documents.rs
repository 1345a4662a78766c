//! `documents`: what a function keeps between calls.

use super::{Failure, HostFunction, data, name, options};
use crate::{
    json,
    quickjs::{Ctx, Value},
    world::thimble::functions::documents,
};

type Answer<'js> = Result<Value<'js>, Failure>;

/// The largest integer that JavaScript can tell from its neighbours.
const MAX_INTEGER: f64 = 9_007_199_254_740_991.0;

pub(super) const FUNCTIONS: &[HostFunction] = &[
    HostFunction { name: c"create", parameters: &["col", "doc"], optional: 0, call: create },
    HostFunction { name: c"list", parameters: &["col", "params"], optional: 1, call: list },
    HostFunction { name: c"getById", parameters: &["col", "id"], optional: 0, call: get_by_id },
    HostFunction { name: c"query", parameters: &["col", "clauses", "params"], optional: 1, call: query },
    HostFunction { name: c"update", parameters: &["col", "id", "doc"], optional: 0, call: update },
    HostFunction { name: c"del", parameters: &["col", "id"], optional: 0, call: del },
    HostFunction { name: c"incrementValue", parameters: &["col", "id", "field", "n"], optional: 0, call: increment_value },
    HostFunction { name: c"count", parameters: &["col", "clauses"], optional: 1, call: count },
];

fn create<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Answer<'js> {
    let document = documents::create(&name(args, 0, "col")?, &data(args, 1, "doc")?)?;
    Ok(json::parse(ctx, document)?)
}

fn list<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Answer<'js> {
    let page = documents::list(&name(args, 0, "col")?, &options(ctx, args, 1, "params")?)?;
    Ok(json::parse(ctx, page)?)
}

fn get_by_id<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Answer<'js> {
    let document = documents::get(&name(args, 0, "col")?, &name(args, 1, "id")?)?;
    Ok(json::parse(ctx, document)?)
}

fn query<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Answer<'js> {
    let (collection, clauses) = (name(args, 0, "col")?, data(args, 1, "clauses")?);
    let page = documents::query(&collection, &clauses, &options(ctx, args, 2, "params")?)?;
    Ok(json::parse(ctx, page)?)
}

fn update<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Answer<'js> {
    let document = documents::update(&name(args, 0, "col")?, &name(args, 1, "id")?, &data(args, 2, "doc")?)?;
    Ok(json::parse(ctx, document)?)
}

fn del<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Answer<'js> {
    let deleted = documents::delete(&name(args, 0, "col")?, &name(args, 1, "id")?)?;
    Ok(Value::new_number(ctx.clone(), deleted.into()))
}

fn increment_value<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Answer<'js> {
    let (collection, id, field) = (name(args, 0, "col")?, name(args, 1, "id")?, name(args, 2, "field")?);
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= MAX_INTEGER;
    let Some(by) = args.get(3).and_then(Value::as_number).filter(whole) else {
        return Err(Failure::Refused("argument missmatch: `n` must be a whole number".into()));
    };
    let document = documents::increment(&collection, &id, &field, by as i64)?;
    Ok(json::parse(ctx, document)?)
}

fn count<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Answer<'js> {
    let collection = name(args, 0, "col")?;
    let clauses = match args.get(1) {
        Some(value) if !value.is_undefined() && !value.is_null() => Some(data(args, 1, "clauses")?),
        _ => None,
    };
    let count = documents::count(&collection, clauses.as_deref().unwrap_or("[]"))?;
    Ok(Value::new_number(ctx.clone(), count as f64))
}
