//! The child's side of compiling: reads a component from its standard input, writes native code or a refusal, and ends.
//!
//! It limits itself before it reads anything. What it reads may be made to crash it: then it ends alone.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use wasmtime::component::Component;

use super::bounds;
use crate::runtime::engine;

/// The hidden command of this program that runs this.
pub const COMMAND: &str = "compile-component";

/// First byte of an answer that is native code …
pub const COMPILED: u8 = b'N';

/// … and of one that is a sentence for whoever uploaded the component.
pub const REFUSED: u8 = b'R';

/// What the child may use.
#[derive(Debug, clap::Args)]
pub struct Limits {
    /// Bytes of address space
    #[arg(long)]
    memory: u64,
    /// Seconds of a processor
    #[arg(long)]
    cpu_seconds: u64,
    /// Bytes of memory of a sandbox
    #[arg(long)]
    guest_memory: u64,
}

/// Compiles what comes in.
pub fn main(limits: &Limits) -> ExitCode {
    match limit(limits).and_then(|()| answer(limits.guest_memory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(guest_memory: u64) -> io::Result<()> {
    let mut component = Vec::new();
    io::stdin().read_to_end(&mut component)?;
    let (kind, answer) = match compile(&component, guest_memory) {
        Ok(native) => (COMPILED, native),
        Err(refusal) => (REFUSED, refusal.into_bytes()),
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&[kind])?;
    stdout.write_all(&answer)?;
    stdout.flush()
}

fn compile(component: &[u8], guest_memory: u64) -> Result<Vec<u8>, String> {
    bounds::check(component, guest_memory)?;
    let refused = |error: wasmtime::Error| format!("{error:#}");
    let engine = engine::compiling().map_err(refused)?;
    let compiled = Component::from_binary(&engine, component).map_err(refused)?;
    compiled.serialize().map_err(refused)
}

/// Takes from this process what it does not need: from now on it cannot take more memory or time than this. Its priority stays
/// as it is, else busy functions would keep it from finishing in time.
#[cfg(unix)]
fn limit(limits: &Limits) -> io::Result<()> {
    let bound = |resource, soft: u64, hard: u64| {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: the call reads the one value it is given.
        match unsafe { libc::setrlimit(resource, &limit) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    bound(libc::RLIMIT_AS, limits.memory, limits.memory)?;
    // The soft limit ends it with a signal of its own, by which the server knows why.
    bound(libc::RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds.saturating_add(1))?;
    bound(libc::RLIMIT_CORE, 0, 0)?;
    bound(libc::RLIMIT_FSIZE, 0, 0)
}

#[cfg(not(unix))]
fn limit(_: &Limits) -> io::Result<()> {
    Ok(())
}
