//! The edge of the network: what somebody can do with bare connections. Each test names the cases of hostile input it stands for.

mod raw;

mod attempts;
mod bodies;
mod connections;
mod heads;
mod mails;
mod readers;
mod slow_clients;
mod survival;
mod websockets;

use std::fs;

use crate::harness::{Server, eventually};

/// Number of sockets that a server has open.
fn sockets(server: &Server) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid)).unwrap();
    let target = |file: std::io::Result<fs::DirEntry>| fs::read_link(file.ok()?.path()).ok();
    files.filter_map(target).filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// Bytes of memory that a server has in use.
fn resident(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid)).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Waits until the server has given back all but so many sockets.
async fn gives_back(server: &Server, but: usize) {
    eventually("the server gives back the connections", async || (sockets(server) <= but).then_some(())).await;
}
