//! What a process has used so far: CPU time in nanoseconds, memory in bytes. Linux only.

use std::fs;

use anyhow::{bail, Context, Result};

/// The server: its worker processes.
#[derive(Clone, Debug)]
pub struct Server {
    pids: Vec<i32>,
}

impl Server {
    /// Processes that must exist.
    pub fn new(pids: &[i32]) -> Result<Server> {
        let server = Server { pids: pids.to_vec() };
        server.cpu_each()?;
        Ok(server)
    }

    /// CPU time of all of them, all threads, user and kernel.
    pub fn cpu(&self) -> Result<u64> {
        Ok(self.cpu_each()?.iter().sum())
    }

    /// The same, one by one.
    pub fn cpu_each(&self) -> Result<Vec<u64>> {
        self.pids.iter().map(|pid| process_cpu(*pid)).collect()
    }

    /// Resident memory of all of them.
    pub fn memory(&self) -> Result<u64> {
        self.pids.iter().map(|pid| resident(*pid)).sum()
    }
}

/// CPU time of this process.
pub fn own() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

/// The process' CPU clock is exact to the nanosecond and up to date even while it runs, unlike
/// /proc/PID/stat (ticks) and /proc/PID/schedstat (as of the last tick).
fn process_cpu(pid: i32) -> Result<u64> {
    // The kernel's encoding of a process' scheduler clock (clock_getcpuclockid(3)).
    let id = (!pid) << 3 | 2;
    clock(id).with_context(|| format!("CPU clock of process {pid}"))
}

fn clock(id: libc::clockid_t) -> Result<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the out-parameter outlives the call.
    if unsafe { libc::clock_gettime(id, &mut now) } != 0 {
        bail!(std::io::Error::last_os_error());
    }
    Ok(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// `Rss` of smaps_rollup: counted page by page, where /proc/PID/status gives an estimate.
fn resident(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss line")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
