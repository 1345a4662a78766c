//! Which database a command works on that is no client of a server: the one that `thimble serve` would use.

use std::path::PathBuf;

use crate::config::{Config, Overrides};

/// Arguments that say where a server keeps what it keeps. Other settings are in `thimble.toml`.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The server's folder [default: ./thimble-data]
    #[arg(long, env = "THIMBLE_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The server's database [default: SQLite in the data folder]
    #[arg(long, env = "THIMBLE_DATABASE", hide_env_values = true, value_name = "URL")]
    database: Option<String>,
    /// File with the server's settings [default: thimble.toml in this folder, if there is one]
    #[arg(long, env = "THIMBLE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    /// The server's settings.
    pub fn config(self) -> anyhow::Result<Config> {
        let overrides = Overrides { data: self.data, database: database(self.database), ..Overrides::default() };
        Config::load(self.config.as_deref(), overrides)
    }
}

/// The database that the flag or our variable names, else the one in the variable that other programs use too.
pub fn database(named: Option<String>) -> Option<String> {
    named.or_else(|| std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()))
}
