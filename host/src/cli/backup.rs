//! `backup` and `restore`: everything that a server keeps, in a file.

use std::path::PathBuf;

use super::{output, place::Place, serve};
use crate::backup::{self, Content};

/// Arguments of `thimble backup`.
#[derive(Debug, clap::Args)]
pub struct Backup {
    /// The file to make
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `thimble restore`.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// A file that `thimble backup` has made
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

pub async fn backup(Backup { file, place }: Backup) -> anyhow::Result<()> {
    let config = place.config()?;
    let content = backup::backup(&config, &file).await?;
    let bytes = std::fs::metadata(&file).map_or(0, |file| file.len());
    let size = output::size(i64::try_from(bytes).unwrap_or(i64::MAX));
    output::line(&format!("{} ({size}) holds {}.", file.display(), summary(&content)))?;
    output::line(&digest(&content))?;
    let own = config.server.data.join("master.key");
    let key = if own.exists() { format!(" ({})", own.display()) } else { String::new() };
    output::note(&format!(
        "The server's master key{key} is not in it, and without that key the backup is of no use: keep a copy of the key, apart \
         from this file."
    ));
    Ok(())
}

pub async fn restore(Restore { file, place }: Restore) -> anyhow::Result<()> {
    let config = place.config()?;
    serve::prepare_folder(&config.server.data)?;
    let content = backup::restore(&config, &file).await?;
    output::line(&format!("{} was restored: {}.", file.display(), summary(&content)))?;
    output::line(&digest(&content))?;
    if backup::key_is_missing(&config)? {
        output::note(&format!(
            "The server needs the master key that was kept with the backup: copy it to {} before it starts.",
            config.server.data.join("master.key").display()
        ));
    }
    Ok(())
}

fn summary(content: &Content) -> String {
    let rows: u64 = content.rows.values().sum();
    let of = |table: &str| content.rows.get(table).copied().unwrap_or_default();
    format!(
        "{} documents, {} functions, {} users of {} apps, {rows} rows in all",
        of("documents"),
        of("functions"),
        of("users"),
        of("tenants")
    )
}

fn digest(content: &Content) -> String {
    format!("SHA-256 of all documents: {}", content.documents)
}
