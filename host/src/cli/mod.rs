//! The command line: `thimble serve` is the server, `backup`, `restore` and `db migrate` work on its database, and every other
//! command is a client of its REST API.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::credentials::Connection;
use crate::runtime::component::child;

mod account;
mod app_quota;
mod backup;
mod banner;
mod caret;
mod client;
mod credentials;
mod db;
mod example;
mod function;
mod limit;
mod login;
mod output;
mod place;
mod prompt;
mod serve;
mod task;

/// Thimble: a self-hosted function platform. Upload a function and forget it.
#[derive(Debug, Parser)]
#[command(name = "thimble", version)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server.
    Serve(serve::Serve),
    /// Keep the keys of an app, so that other commands need not be told.
    Login(login::Login),
    /// Create an app, or set its quota.
    #[command(subcommand)]
    Account(account::Account),
    /// Upload, run and look after functions.
    #[command(subcommand, visible_alias = "fn")]
    Function(function::Function),
    /// Do something again and again.
    #[command(subcommand)]
    Task(task::Task),
    /// Look at documents, and change them.
    #[command(subcommand)]
    Db(db::Db),
    /// Copy everything that a server keeps into a file, while it runs
    Backup(backup::Backup),
    /// Bring what a backup holds into a database that is empty
    Restore(backup::Restore),
    /// What the server starts to compile an upload.
    #[command(hide = true)]
    CompileComponent(child::Limits),
}

/// Runs the command that the arguments name; everything that goes wrong is one message on standard error and exit code 1
/// (2 for arguments that make no sense).
pub fn main() -> ExitCode {
    let Cli { connection, command } = Cli::parse();
    let result = match command {
        Command::CompileComponent(limits) => return child::main(&limits),
        Command::Serve(serve) => serve::run(serve),
        Command::Login(login) => client::block_on(login::run(&connection, login)),
        Command::Account(account) => client::block_on(account::run(&connection, account)),
        Command::Function(function) => client::block_on(function::run(&connection, function)),
        Command::Task(task) => client::block_on(task::run(&connection, task)),
        Command::Db(db) => client::block_on(db::run(&connection, db)),
        Command::Backup(backup) => client::block_on(backup::backup(backup)),
        Command::Restore(restore) => client::block_on(backup::restore(restore)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
