//! `schedule`: functions that run later, as whoever the run acts as.

use serde_json::Value;
use wasmtime::Result;

use super::{
    Invocation, internal, refuse, world::thimble::functions::schedule::Host, world::thimble::functions::types::Error,
};
use crate::jobs::{self, JobView, MAX_PAYLOAD, When};

impl Host for Invocation {
    async fn schedule(
        &mut self,
        function: String,
        payload: String,
        when: String,
    ) -> Result<std::result::Result<String, Error>> {
        self.count_job(function.len() + payload.len() + when.len())?;
        Ok(self.schedule_job(&function, &payload, &when).await)
    }
}

impl Invocation {
    async fn schedule_job(&mut self, function: &str, payload: &str, when: &str) -> std::result::Result<String, Error> {
        // What is far too large is not parsed, which could not be interrupted.
        if payload.len() > 2 * MAX_PAYLOAD {
            return Err(jobs::too_large(payload.len()).into());
        }
        let payload: Value = read(payload, "the payload")?;
        let when: Option<When> = read(when, "when")?;
        let (jobs, who, when) = (&self.services.jobs, &self.call.identity, when.unwrap_or_default());
        let job = match &mut self.work {
            Some(work) => {
                let job = jobs.checked(who, function, &payload, &when, &self.cause)?;
                work.schedule(job.clone());
                job
            }
            None => jobs.add(who, function, &payload, &when, &self.cause).await?,
        };
        let shown = JobView::try_from(job).and_then(|job| serde_json::to_string(&job));
        shown.map_err(|error| internal(&error))
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> std::result::Result<T, Error> {
    let text = if text.is_empty() { "null" } else { text };
    serde_json::from_str(text).map_err(|error| refuse("invalid", format!("{what} cannot be used: {error}")))
}
