//! `get` and `has` on the query parameters and the headers of a web call.
//!
//! Both are plain objects; the two methods come from a prototype, so they do not show when one lists or copies the parameters,
//! and a parameter named `get` hides the method rather than being lost.

use std::cell::RefCell;

use crate::{
    quickjs::{Atom, Ctx, Object, Persistent, Result, Value, prelude::This, qjs},
    runtime,
    text::Text,
};

struct Prototypes {
    query: Persistent<Object<'static>>,
    headers: Persistent<Object<'static>>,
}

thread_local! {
    static PROTOTYPES: RefCell<Option<Prototypes>> = const { RefCell::new(None) };
}

/// Makes both prototypes.
pub fn register<'js>(ctx: &Ctx<'js>) -> Result<()> {
    let query = Object::new(ctx.clone())?;
    runtime::define_function(&query, c"get", 1, |this: This<Value<'js>>, name: Value<'js>| get(this.0, &name, false))?;
    runtime::define_function(&query, c"has", 1, |this: This<Value<'js>>, name: Value<'js>| has(this.0, &name, false))?;
    let headers = Object::new(ctx.clone())?;
    runtime::define_function(&headers, c"get", 1, |this: This<Value<'js>>, name: Value<'js>| get(this.0, &name, true))?;
    runtime::define_function(&headers, c"has", 1, |this: This<Value<'js>>, name: Value<'js>| has(this.0, &name, true))?;
    let prototypes = Prototypes { query: Persistent::save(ctx, query), headers: Persistent::save(ctx, headers) };
    PROTOTYPES.set(Some(prototypes));
    Ok(())
}

/// Gives an argument its methods; names of headers are found in any case.
pub fn attach(value: &Value<'_>, headers: bool) -> Result<()> {
    let Some(object) = value.as_object() else { return Ok(()) };
    let prototype = PROTOTYPES.with_borrow(|prototypes| {
        let prototypes = prototypes.as_ref()?;
        Some(if headers { prototypes.headers.clone() } else { prototypes.query.clone() })
    });
    match prototype {
        Some(prototype) => object.set_prototype(Some(&prototype.restore(object.ctx())?)),
        None => Ok(()),
    }
}

/// The first value, or `null`.
fn get<'js>(this: Value<'js>, name: &Value<'js>, lower_case: bool) -> Result<Value<'js>> {
    let value = own(&this, name, lower_case)?;
    let first = match value.as_ref().and_then(Value::as_array) {
        Some(values) => Some(values.get(0)?),
        None => value,
    };
    Ok(first.unwrap_or_else(|| Value::new_null(this.ctx().clone())))
}

fn has<'js>(this: Value<'js>, name: &Value<'js>, lower_case: bool) -> Result<bool> {
    Ok(own(&this, name, lower_case)?.is_some())
}

/// An own property only: `has("toString")` is false.
fn own<'js>(this: &Value<'js>, name: &Value<'js>, lower_case: bool) -> Result<Option<Value<'js>>> {
    let Some(object) = this.as_object() else { return Ok(None) };
    let ctx = this.ctx();
    let name = Text::of(name)?;
    let atom = if lower_case {
        Atom::from_str(ctx.clone(), &name.to_ascii_lowercase())?
    } else {
        Atom::from_str(ctx.clone(), &name)?
    };
    let key = atom.to_value()?;
    // SAFETY: the atom made from the key is freed; without a descriptor the call only tells whether there is such a property.
    let found = unsafe {
        let context = ctx.as_raw().as_ptr();
        let atom = qjs::JS_ValueToAtom(context, key.as_raw());
        let found = qjs::JS_GetOwnProperty(context, std::ptr::null_mut(), this.as_raw(), atom);
        qjs::JS_FreeAtom(context, atom);
        found
    };
    match found {
        0 => Ok(None),
        failed if failed < 0 => Err(crate::quickjs::Error::Exception),
        _ => object.get(atom).map(Some),
    }
}
