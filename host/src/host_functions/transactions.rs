//! `transactions`: what a run does while one is open happens when it is committed, all of it or nothing.
//!
//! The other interfaces need not know: what they do goes into the run's work when there is some. A run for a kept event has
//! such work from its beginning to its end, and what it opens is a part of that.

use std::time::Duration;

use wasmtime::{Result, component::Resource};

use super::{
    Invocation, refuse,
    world::thimble::functions::transactions::{Host, HostTransaction},
    world::thimble::functions::types::Error,
};
use crate::{
    documents::{DocumentsError, Savepoint, Work},
    store::StoreError,
};

/// What a guest's handle of the transaction that is open stands for. There is never more than one.
pub struct Transaction;

/// The transaction that is open.
pub(super) enum Open {
    /// Its work is all of the run's.
    Whole,
    /// It is a part of the run's work, and this is how it was before.
    Part(Savepoint),
}

/// How a run stands to transactions.
#[derive(Default)]
pub(super) struct Transactions {
    open: Option<Open>,
    /// So many in a row conflicted, the last one included.
    conflicts: u32,
}

impl Transactions {
    /// Whether one is open that is all of the run's work.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.open, Some(Open::Whole))
    }
}

/// The longest pause after the first conflict; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(4);

/// It does not grow beyond this many conflicts.
const LONGEST: u32 = 6;

impl Host for Invocation {}

impl HostTransaction for Invocation {
    fn begin(&mut self) -> Result<std::result::Result<Resource<Transaction>, Error>> {
        self.charge_fuel(0)?;
        if let Err(refused) = self.outside_of_transactions("another transaction cannot begin inside it") {
            return Ok(Err(refused));
        }
        let open = match &self.work {
            Some(work) => Open::Part(work.savepoint()),
            None => {
                let (documents, who) = (self.services.documents.clone(), self.call.identity.clone());
                self.work = Some(Box::new(Work::new(documents, who, self.cause.clone())));
                Open::Whole
            }
        };
        self.transactions.open = Some(open);
        Ok(Ok(Resource::new_own(0)))
    }

    async fn commit(&mut self, _: Resource<Transaction>) -> Result<std::result::Result<(), Error>> {
        self.charge_fuel(0)?;
        // A part is committed with the whole.
        let Some(Open::Whole) = self.transactions.open.take() else { return Ok(Ok(())) };
        let Some(work) = self.work.take() else { return Ok(Ok(())) };
        let services = self.services.clone();
        // To its end, also when the run has no time left: what is committed is told of.
        let committed = tokio::spawn(async move { services.commit(work.into_transaction()?).await }).await;
        let committed = committed.unwrap_or(Err(DocumentsError::Interrupted));
        if let Err(DocumentsError::Store(StoreError::Conflict)) = committed {
            self.transactions.conflicts += 1;
            // Those who were in each other's way would be again if they came back together.
            let most = PAUSE * 2_u32.pow(self.transactions.conflicts.min(LONGEST) - 1);
            tokio::time::sleep(most.mul_f64(rand::random())).await;
        } else {
            self.transactions.conflicts = 0;
        }
        Ok(committed.map_err(Error::from))
    }

    fn drop(&mut self, _: Resource<Transaction>) -> Result<()> {
        self.take_back();
        Ok(())
    }
}

impl Invocation {
    /// Takes back what was done in the transaction that is open, if one is.
    pub(super) fn take_back(&mut self) {
        match self.transactions.open.take() {
            Some(Open::Whole) => self.work = None,
            Some(Open::Part(before)) => {
                if let Some(work) = &mut self.work {
                    work.go_back(before);
                }
            }
            None => {}
        }
    }

    /// Refuses what has no place in a transaction, because it cannot be taken back: here it is asked for by whatever
    /// reaches beyond documents, messages and mails.
    pub(super) fn outside_of_transactions(&self, why: &str) -> std::result::Result<(), Error> {
        match self.transactions.open {
            Some(_) => Err(refuse("invalid", format!("a transaction is open: {why}; wait for its end"))),
            None => Ok(()),
        }
    }

    /// Whether this is what a run throws because its transaction conflicted.
    pub fn is_conflict(&self, thrown: &str) -> bool {
        self.transactions.conflicts > 0 && thrown.contains(&StoreError::Conflict.to_string())
    }
}
