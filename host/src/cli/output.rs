//! What commands print. A closed or full output ends a command with an error, never with a panic.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use anyhow::Context;
use chrono::{DateTime, Local, Utc};

/// Prints a line of the command's result.
pub fn line(text: &str) -> anyhow::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints a result as it is, with the end of a line if it is text without one.
pub fn ended(result: &[u8]) -> anyhow::Result<()> {
    bytes(result)?;
    if result.ends_with(b"\n") || std::str::from_utf8(result).is_err() { Ok(()) } else { bytes(b"\n") }
}

fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Says something that is not the command's result. When nobody can read it there is nothing to be done.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether the reader of our output went away.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Prints rows under their headings, each column as wide as it needs to be.
pub fn table<const N: usize>(headings: [&str; N], rows: Vec<[String; N]>) -> anyhow::Result<()> {
    let rows = std::iter::once(headings.map(str::to_owned)).chain(rows);
    let rows: Vec<_> = rows.map(|row| row.map(|cell| printable(&cell).into_owned())).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.iter().try_for_each(|row| line(&aligned(row, &widths)))
}

fn aligned(cells: &[impl AsRef<str>], widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        text.push_str(&format!("{:width$}  ", cell.as_ref()));
    }
    text.truncate(text.trim_end().len());
    text
}

/// Text of users and functions, without the characters that would control the terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return Cow::Borrowed(text);
    }
    let escaped = |c: char| if c.is_control() && c != '\t' { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escaped).collect())
}

/// A time for people, in their own time zone; the reference's zero time stands for never.
pub fn time(time: Option<DateTime<Utc>>) -> String {
    match time.filter(|time| time.timestamp() > 0) {
        Some(time) => time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string(),
        None => "never".into(),
    }
}

/// A duration for people.
pub fn duration(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms >= 1_000.0 => format!("{:.2} s", ms / 1_000.0),
        ms if ms >= 1.0 => format!("{ms:.1} ms"),
        ms => format!("{:.0} µs", ms * 1_000.0),
    }
}

/// A size for people.
pub fn size(bytes: i64) -> String {
    match bytes {
        ..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let widths = [4, 7];

        assert_eq!(aligned(&["NAME", "VERSION"], &widths), "NAME  VERSION");
        assert_eq!(aligned(&["é", "1"], &widths), "é     1");
    }

    #[test]
    fn a_log_line_cannot_control_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\tc\u{9b}"), "a\\u{1b}[2Jb\tc\\u{9b}");
        assert_eq!(printable("plain é"), "plain é");
    }

    #[test]
    fn durations_and_sizes_are_readable() {
        assert_eq!([duration(0.074), duration(12.34), duration(5_000.0)], ["74 µs", "12.3 ms", "5.00 s"]);
        assert_eq!([size(17), size(17_408), size(67_108_864)], ["17 B", "17.0 KiB", "64.0 MiB"]);
    }

    #[test]
    fn a_broken_pipe_is_known_under_its_context() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);

        assert!(is_broken_pipe(&anyhow::Error::from(pipe).context("cannot write")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
