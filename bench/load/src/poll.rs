//! epoll, level-triggered.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use anyhow::Result;

/// Events fetched in one call.
const BATCH: usize = 1024;

/// Something to do on a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number it was added with.
    pub index: usize,
    /// Bytes, an end or an error can be read.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
}

/// An epoll instance.
pub struct Poll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poll {
    /// A new instance.
    pub fn new() -> Result<Poll> {
        // SAFETY: no pointers; the descriptor is owned by nobody else.
        let fd = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error().into());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Poll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; BATCH] })
    }

    /// Watches `fd` for reading, and for writing if asked.
    pub fn add(&self, fd: RawFd, index: usize, writing: bool) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, index, writing)
    }

    /// Changes what `fd` is watched for.
    pub fn change(&self, fd: RawFd, index: usize, writing: bool) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, index, writing)
    }

    fn control(&self, op: i32, fd: RawFd, index: usize, writing: bool) -> Result<()> {
        let write = if writing { libc::EPOLLOUT } else { 0 };
        let mut event =
            libc::epoll_event { events: (libc::EPOLLIN | write) as u32, u64: index as u64 };
        // SAFETY: the event is read during the call only.
        if unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd, &mut event) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
        Ok(())
    }

    /// Puts what is ready into `found`, after at most `limit`.
    pub fn wait(&mut self, limit: Duration, found: &mut Vec<Ready>) -> Result<()> {
        found.clear();
        let ms = limit.as_millis().min(1000) as i32;
        // SAFETY: the buffer holds BATCH events.
        let n = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), BATCH as i32, ms)
        };
        if n < 0 {
            let err = io::Error::last_os_error();
            return if err.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(err.into()) };
        }
        found.extend(self.events[..n as usize].iter().map(|event| Ready {
            index: event.u64 as usize,
            readable: event.events & !(libc::EPOLLOUT as u32) != 0,
            writable: event.events & libc::EPOLLOUT as u32 != 0,
        }));
        Ok(())
    }
}
