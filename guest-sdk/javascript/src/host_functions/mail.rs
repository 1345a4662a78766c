//! `mail`: `email`, and `sendMail` as StaticBackend calls it.

use super::{Failure, HostFunction, data};
use crate::{
    quickjs::{Ctx, Value},
    world::thimble::functions::mail,
};

pub(super) const FUNCTIONS: &[HostFunction] = &[
    HostFunction { name: c"email", parameters: &["message"], optional: 0, call: email },
    HostFunction { name: c"sendMail", parameters: &["message"], optional: 0, call: email },
];

fn email<'js>(ctx: &Ctx<'js>, args: &[Value<'js>]) -> Result<Value<'js>, Failure> {
    mail::email(&data(args, 0, "message")?)?;
    Ok(Value::new_null(ctx.clone()))
}
