//! The server's log: on standard error, one line for each event.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
    prelude::*,
};

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line for each event; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object for each event.
    Json,
}

/// What is logged when `RUST_LOG` does not say otherwise.
const FILTER: &str = "info,sqlx=warn,wasmtime=warn,cranelift=warn,hyper=warn,rustls=warn";

/// Starts logging. Called once, by the command that serves.
pub fn init(format: LogFormat) {
    let (filter, refused) = match std::env::var("RUST_LOG").map(EnvFilter::try_new) {
        Ok(Ok(filter)) => (filter, None),
        Ok(Err(error)) => (EnvFilter::new(FILTER), Some(error)),
        Err(_) => (EnvFilter::new(FILTER), None),
    };
    // Nowhere to complain when the log itself cannot be written; complaining there would end the process.
    let layer =
        tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(|| OneLine(io::stderr().lock()));
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => {
            let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
            layer.compact().with_target(false).with_timer(Milliseconds).with_ansi(colours).boxed()
        }
    };
    // Fails only when a test has set a log of its own, which may stay.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    if let Some(error) = refused {
        tracing::warn!(%error, "RUST_LOG cannot be used and is ignored");
    }
}

/// UTC to the millisecond.
struct Milliseconds;

impl FormatTime for Milliseconds {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

/// Keeps an event on its line: text that comes from users must not be able to forge another one.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    /// Called once with each formatted event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        if text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            let mut line = Vec::with_capacity(event.len() + 16);
            for byte in text {
                match byte {
                    b'\n' => line.extend(b"\\n"),
                    b'\r' => line.extend(b"\\r"),
                    byte => line.push(*byte),
                }
            }
            line.push(b'\n');
            self.0.write_all(&line)?;
        } else {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_event_stays_on_its_line() {
        let mut written = Vec::new();

        let taken = OneLine(&mut written).write(b"INFO a\r\nERROR forged\n").unwrap();

        assert_eq!(taken, 21);
        assert_eq!(written, b"INFO a\\r\\nERROR forged\n");
    }
}
