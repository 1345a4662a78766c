//! What a process uses, as the kernel tells it.

use std::fs;

/// Resident memory in bytes.
pub fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS:") << 10
}

/// Threads.
pub fn threads(pid: u32) -> u64 {
    status(pid, "Threads:")
}

/// Open files and sockets.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Processor time that it has used, in hundredths of a second, which is what Linux counts in.
pub fn processor_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn status(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
