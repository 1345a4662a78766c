//! What the system knows of this process. Names are those that Prometheus' own clients use.

use prometheus_client::{metrics::gauge::ConstGauge, registry::Registry};

/// Figures of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Bytes of memory that are in use.
    pub resident: u64,
    /// Threads.
    pub threads: u64,
    /// Files and sockets that are open …
    pub open_files: u64,
    /// … and how many may be.
    pub most_files: u64,
}

impl Process {
    /// Asks the system; `None` where it has no `/proc`.
    pub fn now() -> Option<Self> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).ok();
        let (resident, threads) = status(&read("status")?)?;
        // One of them is the folder itself, while it is read.
        let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64;
        Some(Self { resident, threads, open_files, most_files: most_files(&read("limits")?)? })
    }

    /// Shows the figures.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of the process that is in use", self.resident),
            ("process_threads", "Threads of the process", self.threads),
            ("process_open_fds", "Files and sockets that are open", self.open_files),
            ("process_max_fds", "Files and sockets that may be open", self.most_files),
        ] {
            registry.register(name, help, ConstGauge::new(value));
        }
    }
}

/// Bytes of resident memory, and threads.
fn status(text: &str) -> Option<(u64, u64)> {
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((number("VmRSS:")? * 1_024, number("Threads:")?))
}

/// The soft limit of open files.
fn most_files(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_tables_are_read() {
        assert_eq!(status("Name:\tthimble\nVmRSS:\t    1234 kB\nThreads:\t17\n"), Some((1_263_616, 17)));
        assert_eq!(status("Name:\tthimble\n"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        assert_eq!(most_files(limits), Some(1_024));
        assert_eq!(
            most_files("Max open files            unlimited            unlimited            files"),
            Some(u64::MAX)
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory_threads_and_files() {
        let process = Process::now().unwrap_or_default();

        assert!(process.resident > 1 << 20 && process.threads >= 1, "{process:?}");
        assert!(process.open_files >= 3 && process.open_files <= process.most_files, "{process:?}");
    }
}
