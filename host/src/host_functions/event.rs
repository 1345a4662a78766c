//! `event`: what the run is for.

use serde_json::json;
use wasmtime::Result;

use super::{Invocation, world::thimble::functions::event::Host};

// Not counted as host calls: the engine asks for some of them by itself. They cost fuel.
impl Host for Invocation {
    fn run_id(&mut self) -> Result<String> {
        self.charge_fuel(0)?;
        Ok(self.call.run.clone())
    }

    fn kind(&mut self) -> Result<String> {
        self.charge_fuel(0)?;
        Ok(self.call.kind.into())
    }

    fn user(&mut self) -> Result<String> {
        self.charge_fuel(0)?;
        let who = &self.call.identity;
        if who.is_anonymous() {
            return Ok("null".into());
        }
        let user = json!({ "userId": who.user, "accountId": who.account, "email": who.email, "role": who.role });
        Ok(user.to_string())
    }

    fn headers(&mut self) -> Result<String> {
        let headers = serde_json::to_string(&self.call.headers).unwrap_or_default();
        self.charge_fuel(headers.len())?;
        Ok(headers)
    }

    fn trace_id(&mut self) -> Result<String> {
        self.charge_fuel(0)?;
        Ok(self.call.cause.trace_id.clone())
    }
}
