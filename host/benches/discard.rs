//! A store that answers at once and keeps nothing, so that a benchmark of the sandbox measures the sandbox.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use thimble::{
    document::{Document, Page, PageRequest},
    event::Event,
    filter::{Field, Filter},
    function::{Function, Version},
    identity::Identity,
    mail::{Mail, MailMessage, QueuedMail},
    quota::OwnQuota,
    run::Run,
    statistics::Figures,
    store::{
        Beat, Begun, Committed, DeadLetter, Done, Due, Exchange, Failure, FieldIndex, NewTenant, NewVersion, Step,
        Store, StoreError, Stored, Transaction,
    },
    task::{Job, Task, TaskRun},
    usage::KeptUsage,
    user::{Tenant, User},
};

/// See the module.
pub struct Discard;

type Result<T> = std::result::Result<T, StoreError>;

/// Verbs that no benchmark uses say so.
macro_rules! unused {
    ($(async fn $verb:ident($($name:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Discard {
            async fn close(&self) {}

            fn exchange(&self) -> Option<std::sync::Arc<dyn Exchange>> {
                None
            }

            async fn commit(&self, transaction: Transaction) -> Result<Committed> {
                let mut committed = Committed::default();
                for planned in &transaction.steps {
                    let Step::Create { documents, .. } = &planned.step else {
                        return Err(StoreError::Invalid("the benchmark's store only creates documents".into()));
                    };
                    let events = documents.iter().filter_map(|document| transaction.event(planned, document));
                    committed.events.extend(events);
                    committed.done.push(Done::Documents(documents.clone()));
                }
                Ok(committed)
            }

            $(async fn $verb(&self, $($name: $kind),*) -> Result<$answer> {
                let _ = ($($name,)*);
                Err(StoreError::Invalid(concat!("the benchmark's store cannot ", stringify!($verb)).into()))
            })*
        }
    };
}

unused! {
    async fn ping() -> ();
    async fn setting(a: &str) -> Option<String>;
    async fn add_setting(a: &str, b: &str) -> String;
    async fn set_setting(a: &str, b: &str) -> ();
    async fn add_tenant(a: NewTenant) -> ();
    async fn tenant(a: &str) -> Option<Tenant>;
    async fn tenants() -> Vec<Tenant>;
    async fn add_user(a: &User) -> ();
    async fn user(a: &str, b: &str) -> Option<User>;
    async fn user_by_email(a: &str, b: &str) -> Option<User>;
    async fn root_user(a: &str) -> Option<User>;
    async fn account_users(a: &str, b: &str) -> Vec<User>;
    async fn update_user(a: &User) -> bool;
    async fn delete_user(a: &str, b: &str) -> bool;
    async fn document(a: &Identity, b: &str, c: &str) -> Option<Document>;
    async fn documents(a: &Identity, b: &str, c: &[String]) -> Vec<Document>;
    async fn list(a: &Identity, b: &str, c: &Filter, d: &PageRequest) -> Page;
    async fn writable(a: &Identity, b: &str, c: &Filter) -> Vec<Document>;
    async fn count(a: &Identity, b: &str, c: &Filter) -> i64;
    async fn stored(a: &str) -> Stored;
    async fn beat() -> Beat;
    async fn preview(a: Transaction) -> Vec<Done>;
    async fn claim(a: DateTime<Utc>, b: u32) -> Vec<Event>;
    async fn release(a: Vec<i64>, b: DateTime<Utc>) -> ();
    async fn fail(a: Failure, b: Option<Run>) -> Vec<KeptUsage>;
    async fn dead_letters(a: &str, b: &str, c: u32) -> Vec<DeadLetter>;
    async fn resend(a: &str, b: &str, c: Option<i64>) -> u64;
    async fn forget_dead(a: &str, b: &str, c: Option<i64>) -> u64;
    async fn collections(a: &str) -> Vec<String>;
    async fn add_function(a: &str, b: &str, c: &str, d: NewVersion) -> Function;
    async fn add_version(a: &str, b: &str, c: &str, d: NewVersion) -> Option<Function>;
    async fn set_version(a: &str, b: &str, c: i64) -> Option<Function>;
    async fn function(a: &str, b: &str) -> Option<Function>;
    async fn function_by_id(a: &str, b: &str) -> Option<Function>;
    async fn functions(a: &str) -> Vec<Function>;
    async fn all_functions() -> Vec<Function>;
    async fn versions(a: &str, b: &str, c: u32) -> Vec<Version>;
    async fn prune_versions(a: &str, b: &str, c: u32) -> Vec<String>;
    async fn unused_hashes(a: Vec<String>) -> Vec<String>;
    async fn component(a: &str, b: &str, c: i64) -> Option<Bytes>;
    async fn delete_function(a: &str, b: &str) -> bool;
    async fn record_run(a: &Run) -> Vec<KeptUsage>;
    async fn runs(a: &str, b: &str, c: u32) -> Vec<Run>;
    async fn figures(a: &str, b: &str, c: DateTime<Utc>, d: u32) -> Figures;
    async fn prune_runs(a: DateTime<Utc>, b: u32) -> u64;
    async fn prune_runs_of(a: &str, b: &str, c: u32) -> u64;
    async fn size() -> u64;
    async fn usage() -> Vec<KeptUsage>;
    async fn set_quota(a: &str, b: &OwnQuota) -> bool;
    async fn queue_mail(a: &Mail) -> ();
    async fn due_mails(a: DateTime<Utc>, b: u32) -> Vec<QueuedMail>;
    async fn mail_sent(a: &str, b: DateTime<Utc>, c: &MailMessage) -> ();
    async fn mail_failed(a: &str, b: &str, c: DateTime<Utc>) -> ();
    async fn mail_given_up(a: &str, b: &str, c: &MailMessage) -> ();
    async fn mails(a: &str, b: u32) -> Vec<QueuedMail>;
    async fn add_task(a: &Task, b: u64) -> bool;
    async fn update_task(a: &Task) -> bool;
    async fn task(a: &str, b: &str) -> Option<Task>;
    async fn tasks(a: &str) -> Vec<Task>;
    async fn waiting_tasks() -> Vec<Task>;
    async fn delete_task(a: &str, b: &str) -> bool;
    async fn due(a: DateTime<Utc>, b: u32, c: u32) -> Due;
    async fn claim_tick(a: &Task, b: Option<DateTime<Utc>>, c: Option<&TaskRun>) -> Begun;
    async fn start_task_run(a: &TaskRun) -> Begun;
    async fn end_task_run(a: &TaskRun) -> bool;
    async fn task_runs(a: &str, b: &str, c: u32) -> Vec<TaskRun>;
    async fn add_job(a: &Job, b: u64) -> bool;
    async fn job(a: &str, b: &str) -> Option<Job>;
    async fn jobs(a: &str, b: Option<&str>, c: u32) -> Vec<Job>;
    async fn cancel_job(a: &str, b: &str, c: DateTime<Utc>) -> bool;
    async fn begin_job(a: &Job, b: &str, c: DateTime<Utc>) -> bool;
    async fn end_job(a: &Job, b: &str) -> bool;
    async fn renew_leases(a: &str, b: Vec<String>, c: DateTime<Utc>, d: DateTime<Utc>) -> u64;
    async fn add_index(a: &str, b: &str, c: &Field, d: u64) -> bool;
    async fn indexes(a: &str) -> Vec<FieldIndex>;
    async fn delete_index(a: &str, b: &str, c: &Field) -> bool;
    async fn mend_indexes() -> ();
    async fn note_running(a: Vec<(i64, Run)>) -> ();
}
