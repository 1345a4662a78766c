//! What nodes that share one database tell each other through it.
//!
//! News is heard at once and may be missed, when the connection it comes by is lost; everything that news is about can be asked
//! for as well. What is made of it is decided in `peers.rs`.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;

use super::StoreError;

/// The way to the other nodes.
#[async_trait]
pub trait Exchange: Send + Sync {
    /// Names this process.
    fn node(&self) -> &str;

    /// Whether this node, when it last looked, was the only one that lived.
    fn is_alone(&self) -> bool;

    /// Listens to news from now on.
    async fn listen(&self) -> Result<Box<dyn News>, StoreError>;

    /// Sends batches of messages to all nodes, numbered from `first` on. The same numbers again change nothing.
    async fn relay(&self, first: i64, batches: &[String]) -> Result<(), StoreError>;
    /// What others have relayed since this node listens, after the numbers that are known of each of them; each node's in order.
    /// `late`: only what should have been heard long ago.
    async fn relayed(&self, known: &HashMap<String, i64>, late: bool) -> Result<Vec<Relayed>, StoreError>;
    /// Forgets what was relayed and is old.
    async fn forget_relayed(&self) -> Result<(), StoreError>;

    /// Of each of the channels, whether it may have members on other nodes.
    async fn heard(&self, channels: &[Place]) -> Result<Vec<bool>, StoreError>;
    /// Notes how many members channels have here.
    async fn set_members(&self, members: &[(Place, usize)]) -> Result<(), StoreError>;
    /// Notes all channels that have members here: there are no others. `None`: they are not noted, and it may be any.
    async fn list_members(&self, members: Option<&[(Place, usize)]>) -> Result<(), StoreError>;
    /// How many members a channel has on other nodes.
    async fn members(&self, tenant: &str, channel: &str) -> Result<usize, StoreError>;

    /// The numbers of changes of tenants: of all, or of those that have changed lately.
    async fn changes(&self, lately: bool) -> Result<Vec<(String, i64)>, StoreError>;
    /// What a tenant's functions are at the moment.
    async fn outlines(&self, tenant: &str) -> Result<Vec<Outline>, StoreError>;
}

/// A tenant and one of its channels.
pub type Place = (Arc<str>, Arc<str>);

/// News from other nodes as it comes.
#[async_trait]
pub trait News: Send {
    /// Waits for the next piece. An error means that some may have been missed: listen again.
    async fn next(&mut self) -> Result<Notice, StoreError>;
}

/// One piece of news.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// A node has come or gone.
    Nodes,
    /// Something of a tenant has changed that nodes hold in memory.
    Changed(String),
    /// A node has sent messages; without those that are too large for a notice.
    Relayed(Relayed, IsWhole),
}

/// Whether a notice has the batch with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsWhole {
    /// It is there.
    Yes,
    /// It has to be asked for.
    No,
}

/// A batch of messages from another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// Who sent it.
    pub node: String,
    /// The how manieth it is of that node.
    pub number: i64,
    /// The messages.
    pub batch: String,
}

/// Who else lives, as [`Store::beat`](super::Store::beat) found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The other nodes.
    pub others: Vec<String>,
    /// The others did not know this node, or took it for gone.
    pub is_new: bool,
}

/// A function without its code: which version runs, for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it waits for.
    pub trigger: String,
    /// The number of the version that runs.
    pub version: i64,
}
