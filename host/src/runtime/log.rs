//! The log of one run: bounded, so that a function that logs in a loop costs neither memory nor disk.

use super::limits::Limits;

/// How important an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// For developing.
    Debug,
    /// The usual.
    #[default]
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

impl TryFrom<u32> for Level {
    type Error = u32;

    fn try_from(number: u32) -> Result<Self, u32> {
        [Self::Debug, Self::Info, Self::Warn, Self::Error].get(number as usize).copied().ok_or(number)
    }
}

/// Entries of one run; over its limits it is cut and marked, and the run goes on.
#[derive(Debug, Default)]
pub struct RunLog {
    lines: Vec<String>,
    bytes: usize,
    cut: bool,
    max_bytes: usize,
    max_lines: usize,
    max_line_bytes: usize,
}

impl RunLog {
    /// An empty log.
    pub fn new(limits: &Limits) -> Self {
        Self {
            max_bytes: limits.log_bytes,
            max_lines: limits.log_lines,
            max_line_bytes: limits.log_line_bytes,
            ..Self::default()
        }
    }

    /// Adds an entry; anything but `Info` is marked with its level.
    pub fn add(&mut self, level: Level, text: &str) {
        if self.cut {
            return;
        }
        let mark = match level {
            Level::Debug => "[debug] ",
            Level::Info => "",
            Level::Warn => "[warn] ",
            Level::Error => "[error] ",
        };
        let entry = truncated(text, self.max_line_bytes);
        if self.lines.len() >= self.max_lines || self.bytes + entry.len() > self.max_bytes {
            self.cut = true;
            self.lines
                .push(format!("[log cut: a run may log {} entries and {} bytes]", self.max_lines, self.max_bytes));
            return;
        }
        self.bytes += entry.len();
        self.lines.push(format!("{mark}{entry}"));
    }

    /// The entries in order.
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }
}

/// `text`, or its first `limit` bytes and a mark; never cut within a character.
pub fn truncated(text: &str, limit: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}… [cut: {} bytes in all]", &text[..end], text.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(bytes: usize, lines: usize, line: usize) -> RunLog {
        RunLog { max_bytes: bytes, max_lines: lines, max_line_bytes: line, ..RunLog::default() }
    }

    #[test]
    fn a_log_is_cut_once_and_says_so() {
        let mut log = log(1_000, 2, 100);

        for n in 0..5 {
            log.add(Level::Info, &n.to_string());
        }

        assert_eq!(log.into_lines(), ["0", "1", "[log cut: a run may log 2 entries and 1000 bytes]"]);
    }

    #[test]
    fn a_long_entry_is_cut_between_characters() {
        let mut log = log(1_000, 10, 4);

        log.add(Level::Error, "aaéé");

        assert_eq!(log.into_lines(), ["[error] aaé… [cut: 6 bytes in all]"]);
    }
}
