//! `db migrate`: brings the tables of the database up to date.

use crate::{
    cli::{output, place::Place, serve},
    store,
};

pub async fn run(place: Place) -> anyhow::Result<()> {
    let config = place.config()?;
    serve::prepare_folder(&config.server.data)?;
    let migrated = store::migrate(&config.database_url(), &config.database).await?;
    let store::Migrated { from, to } = migrated;
    output::line(&match from {
        from if from == to => format!("The database is up to date: its tables are version {to}."),
        0 => format!("The database had no tables; now they are there, version {to}."),
        from => format!("The tables of the database were version {from} and are version {to} now."),
    })
}
