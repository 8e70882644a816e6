//! A serving process of a benchmark, and its CPU time. Linux only.

use std::net::{SocketAddr, TcpListener as Probe};
use std::process::{Child, Command, Stdio};

/// A program that serves, killed with this value.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Program {
    /// The CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("the program runs");
        // The name of the program, which may hold spaces, ends with a parenthesis.
        let (_, rest) = stat.rsplit_once(')').expect("a line of Linux");
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: f64 = ticks
            .map(|ticks| ticks.parse::<f64>().expect("ticks"))
            .sum();
        ticks / 100.0
    }
}

/// An address of loopback that nothing listens on.
pub(crate) fn free_address() -> SocketAddr {
    let probe = Probe::bind("127.0.0.1:0").expect("loopback has free ports");
    probe.local_addr().expect("it is bound")
}

/// Starts a program that is to serve this address.
pub(crate) fn started(name: &'static str, command: &mut Command, address: SocketAddr) -> Program {
    let child = command.stderr(Stdio::null()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    Program {
        name,
        child,
        address,
    }
}

/// A file with settings, in a folder of the build.
pub(crate) fn settings(name: &str, text: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, text).expect("the folder of the build takes files");
    path
}
