//! The server's side of compiling: starts a child process for each component, and makes an end of it.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::{CompileConfig, child};
use crate::runtime::compile::UploadError;

/// Native code is several times as large as the component it is made from.
const MOST_NATIVE: u64 = 128 << 20;

/// So much is looked at of what a child says before it dies.
const MOST_WORDS: u64 = 4 << 10;

/// Compiles components one by one.
pub struct Compiler {
    program: PathBuf,
    arguments: [String; 4],
    wall: Duration,
    cpu_seconds: u64,
    memory: u64,
}

impl Compiler {
    /// A compiler for sandboxes of `guest_memory` bytes.
    pub fn new(config: &CompileConfig, guest_memory: usize) -> Self {
        let CompileConfig { program, wall_ms, cpu_seconds, memory, .. } = config;
        Self {
            program: if program.is_empty() { this_program() } else { program.into() },
            arguments: [
                child::COMMAND.to_owned(),
                format!("--memory={memory}"),
                format!("--cpu-seconds={cpu_seconds}"),
                format!("--guest-memory={guest_memory}"),
            ],
            wall: Duration::from_millis(*wall_ms),
            cpu_seconds: *cpu_seconds,
            memory: *memory,
        }
    }

    /// The native code of a component. The child is killed when this is dropped.
    pub async fn compile(&self, name: &str, component: &[u8]) -> Result<Vec<u8>, UploadError> {
        match tokio::time::timeout(self.wall, self.run(component)).await {
            Ok(Ok(Exited { status, answer, words })) => self.read(name, status, answer, &words),
            Ok(Err(error)) => Err(UploadError::Internal(error)),
            Err(_) => Err(UploadError::Stopped(format!(
                "compiling `{name}` took longer than {} ms and was ended: make it smaller, or split its largest functions. \
                 The operator raises the limit with `compile.wall_ms`",
                self.wall.as_millis()
            ))),
        }
    }

    async fn run(&self, component: &[u8]) -> anyhow::Result<Exited> {
        let mut command = Command::new(&self.program);
        // Who presses Ctrl-C means the server, which ends in its own time.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command
            .args(&self.arguments)
            // It needs nothing, and secrets of the server may stand there.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} to compile a component", self.program.display()))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let put = async {
            if let Some(mut stdin) = stdin {
                // A child that has seen enough closes its end; what it says is read below.
                let _ = stdin.write_all(component).await;
            }
        };
        let ((), answer, words) = tokio::join!(put, up_to(stdout, MOST_NATIVE + 1), up_to(stderr, MOST_WORDS));
        let status = child.wait().await?;
        Ok(Exited { status, answer: answer?, words: words? })
    }

    fn read(&self, name: &str, status: ExitStatus, answer: Vec<u8>, words: &[u8]) -> Result<Vec<u8>, UploadError> {
        if answer.len() as u64 > MOST_NATIVE {
            return Err(UploadError::Refused(format!("`{name}` has more than {MOST_NATIVE} bytes as native code")));
        }
        match answer.split_first() {
            Some((&child::COMPILED, native)) if status.success() => Ok(native.to_vec()),
            Some((&child::REFUSED, text)) if status.success() => {
                Err(UploadError::Refused(format!("`{name}` is refused: {}", String::from_utf8_lossy(text))))
            }
            _ => Err(UploadError::Stopped(self.explain(name, status, words))),
        }
    }

    /// A child that ends in any other way was stopped by its limits, or the compiler could not cope.
    fn explain(&self, name: &str, status: ExitStatus, words: &[u8]) -> String {
        let words = String::from_utf8_lossy(words);
        tracing::info!(%status, words = words.trim_end(), "a component could not be compiled");
        if words.contains("allocation") || words.contains("out of memory") || words.contains("Cannot allocate") {
            return format!(
                "compiling `{name}` takes more than {} bytes of memory: make it smaller, or split its largest functions. \
                 The operator raises the limit with `compile.memory`",
                self.memory
            );
        }
        if was_out_of_time(status) {
            return format!(
                "compiling `{name}` takes more than {} s of a processor: make it smaller, or split its largest functions. \
                 The operator raises the limit with `compile.cpu_seconds`",
                self.cpu_seconds
            );
        }
        format!(
            "`{name}` cannot be compiled: the compiler gave up on it. Make it smaller, or split its largest functions"
        )
    }
}

struct Exited {
    status: ExitStatus,
    answer: Vec<u8>,
    words: Vec<u8>,
}

/// Reads the beginning of a stream, and drops the rest, so that who writes it comes to an end.
async fn up_to(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        (&mut stream).take(limit).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 == limit {
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        }
    }
    Ok(bytes)
}

/// On Linux the program that runs, even when its file was replaced by another version meanwhile.
fn this_program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { running } else { std::env::current_exe().unwrap_or_else(|_| "thimble".into()) }
}

#[cfg(unix)]
fn was_out_of_time(status: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status).is_some_and(|signal| signal == libc::SIGXCPU)
}

#[cfg(not(unix))]
fn was_out_of_time(_: ExitStatus) -> bool {
    false
}
