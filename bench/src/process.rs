//! The server's process on Linux: its processor time and its memory.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use super::problem::Problem;

/// The state of a listening socket in /proc/net/tcp.
const LISTENING: &str = "0A";

/// A process of this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pid: u32,
}

impl Process {
    /// The process with this number, or else the process that listens on the server's port, if it
    /// runs on this machine and its files are readable.
    ///
    /// # Errors
    ///
    /// [`Problem::NoProcess`] if there is no process with this number.
    pub(super) fn find(pid: Option<u32>, server: SocketAddr) -> Result<Option<Self>, Problem> {
        match pid {
            Some(pid) => {
                let process = Self { pid };
                let found = process.resident_bytes().map(|_bytes| process);
                found.ok_or(Problem::NoProcess(pid)).map(Some)
            }
            None if server.ip().is_loopback() => Ok(Self::listening(server.port())),
            None => Ok(None),
        }
    }

    /// The process that listens on this port.
    fn listening(port: u16) -> Option<Self> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
        let tables = tables.into_iter().filter_map(Result::ok);
        let links: Vec<_> = tables
            .flat_map(|table| inodes(&table, port))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        let mut processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse().ok().map(|pid| Self { pid })
        });
        processes.find(|process| process.has_one_of(&links))
    }

    fn has_one_of(self, links: &[String]) -> bool {
        let Ok(files) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else {
            return false;
        };
        let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        targets.any(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
    }

    /// The process ID.
    pub(super) fn pid(self) -> u32 {
        self.pid
    }

    /// The processor time of the threads; a thread that has ended does not count.
    pub(super) fn cpu(self) -> Option<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
        let nanos = threads.filter_map(|thread| {
            let path = thread.ok()?.path().join("schedstat");
            let text = fs::read_to_string(path).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        let nanos: Vec<_> = nanos.collect();
        (!nanos.is_empty()).then(|| Duration::from_nanos(nanos.iter().sum()))
    }

    /// The resident memory.
    pub(super) fn resident_bytes(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kilobytes * 1024)
    }
}

/// The inodes of the sockets in a table that listen on a port.
fn inodes(table: &str, port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    table
        .lines()
        .filter_map(|line| inode(line, &port))
        .collect()
}

fn inode(line: &str, port: &str) -> Option<String> {
    let columns: Vec<_> = line.split_ascii_whitespace().collect();
    let is_it = columns.get(1)?.ends_with(port) && *columns.get(3)? == LISTENING;
    columns
        .get(9)
        .filter(|_inode| is_it)
        .map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   0       0 4711 1 0
   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000   0       0 4712 1 0
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000   0       0 4713 1 0
";

    #[test]
    fn only_the_socket_that_listens_on_the_port_is_found() {
        assert_eq!(inodes(TABLE, 8080), ["4711"]);
        assert_eq!(inodes(TABLE, 22), ["4713"]);
        assert!(inodes(TABLE, 40_000).is_empty() && inodes("", 8080).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_that_listens_is_found_and_measured() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let found = Process::find(None, address)
            .expect("it runs")
            .expect("it listens");
        assert_eq!(found.pid(), std::process::id());
        assert!(found.cpu().is_some() && found.resident_bytes() > Some(0));
        assert!(matches!(
            Process::find(Some(u32::MAX), address),
            Err(Problem::NoProcess(u32::MAX))
        ));
    }
}
