//! What an app may use and has used, as rows of a table.

use serde::Deserialize;

use super::output;

/// The quota of an app as the server shows it. Fields of servers of other versions may be missing.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AppQuota {
    concurrency: u64,
    rate: u64,
    fuel_per_day: u64,
    documents: u64,
    document_bytes: u64,
    events: u64,
    functions: u64,
    compile_ms: f64,
    tasks: u64,
    jobs: u64,
    indexes: u64,
    running: u64,
    runs_this_minute: u64,
    fuel_today: u64,
    stored_documents: u64,
    stored_document_bytes: u64,
    stored_events: u64,
    stored_functions: u64,
    compiled_ms_this_minute: f64,
}

impl AppQuota {
    /// Each with its name, what is used, how much there is, and which part that is.
    pub fn rows(&self) -> Vec<[String; 4]> {
        vec![
            count("runs at once", self.running, self.concurrency),
            count("runs this minute", self.runs_this_minute, self.rate),
            count("fuel today", self.fuel_today, self.fuel_per_day),
            count("documents", self.stored_documents, self.documents),
            bytes("bytes of documents", self.stored_document_bytes, self.document_bytes),
            count("events that wait", self.stored_events, self.events),
            count("functions", self.stored_functions, self.functions),
            time("compiling this minute", self.compiled_ms_this_minute, self.compile_ms),
            at_most("tasks", self.tasks),
            at_most("jobs", self.jobs),
            at_most("indexes", self.indexes),
        ]
    }
}

/// A row of what the server does not count here.
fn at_most(name: &str, of: u64) -> [String; 4] {
    [name.to_owned(), String::new(), of.to_string(), String::new()]
}

/// A row of numbers.
pub fn count(name: &str, used: u64, of: u64) -> [String; 4] {
    row(name, (used as f64, used.to_string()), (of as f64, of.to_string()))
}

/// A row of sizes.
pub fn bytes(name: &str, used: u64, of: u64) -> [String; 4] {
    let text = |bytes: u64| output::size(i64::try_from(bytes).unwrap_or(i64::MAX));
    row(name, (used as f64, text(used)), (of as f64, text(of)))
}

/// A row of times, in milliseconds.
pub fn time(name: &str, used: f64, of: f64) -> [String; 4] {
    row(name, (used, output::duration(used)), (of, output::duration(of)))
}

fn row(name: &str, used: (f64, String), of: (f64, String)) -> [String; 4] {
    let part = if of.0 > 0.0 { format!("{:.0} %", used.0 / of.0 * 100.0) } else { String::new() };
    [name.to_owned(), used.1, of.1, part]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_which_part_is_used() {
        assert_eq!(count("x", 1, 4), ["x", "1", "4", "25 %"]);
        assert_eq!(bytes("x", 2_048, 1 << 20), ["x", "2.0 KiB", "1.0 MiB", "0 %"]);
        assert_eq!(time("x", 5.0, 5_000.0), ["x", "5.0 ms", "5.00 s", "0 %"]);
        assert_eq!(count("x", 1, 0)[3], "");
    }
}
