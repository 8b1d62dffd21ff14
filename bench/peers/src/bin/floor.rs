//! The floor under every echo server: epoll, recv, send, no protocol. What comes is sent back as
//! it is. Usage: floor PORT

use std::collections::HashMap;
use std::io;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use anyhow::{ensure, Result};

/// As much as is read at once; small enough to stay in the second-level cache.
const BUFFER: usize = 256 * 1024;

struct Conn {
    stream: TcpStream,
    /// What the kernel did not take.
    rest: Vec<u8>,
}

fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).unwrap_or_default().parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    // SAFETY: no pointers.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    ensure!(epoll >= 0, io::Error::last_os_error());
    watch(epoll, listener.as_raw_fd(), libc::EPOLL_CTL_ADD, libc::EPOLLIN)?;
    let mut conns: HashMap<RawFd, Conn> = HashMap::new();
    let mut buffer = vec![0; BUFFER];
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    loop {
        // SAFETY: the buffer is as long as said.
        let n = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, -1) };
        for event in &events[..usize::try_from(n).unwrap_or(0)] {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    let fd = stream.as_raw_fd();
                    watch(epoll, fd, libc::EPOLL_CTL_ADD, libc::EPOLLIN)?;
                    conns.insert(fd, Conn { stream, rest: Vec::new() });
                }
                continue;
            }
            let Some(conn) = conns.get_mut(&fd) else { continue };
            match echo(conn, &mut buffer) {
                Ok(true) => {}
                Ok(false) => {
                    let wanted = if conn.rest.is_empty() { libc::EPOLLIN } else { libc::EPOLLOUT };
                    watch(epoll, fd, libc::EPOLL_CTL_MOD, wanted)?;
                }
                Err(_) => drop(conns.remove(&fd)),
            }
        }
    }
}

/// False: what is waited for has changed.
fn echo(conn: &mut Conn, buffer: &mut [u8]) -> io::Result<bool> {
    if !conn.rest.is_empty() {
        let n = conn.stream.write(&conn.rest)?;
        conn.rest.drain(..n);
        return Ok(!conn.rest.is_empty());
    }
    let n = match conn.stream.read(buffer)? {
        0 => return Err(ErrorKind::UnexpectedEof.into()),
        n => n,
    };
    let sent = match conn.stream.write(&buffer[..n]) {
        Err(err) if err.kind() == ErrorKind::WouldBlock => 0,
        other => other?,
    };
    conn.rest.extend_from_slice(&buffer[sent..n]);
    Ok(conn.rest.is_empty())
}

fn watch(epoll: RawFd, fd: RawFd, op: i32, events: i32) -> Result<()> {
    let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
    // SAFETY: the event is read during the call only.
    let rc = unsafe { libc::epoll_ctl(epoll, op, fd, &mut event) };
    ensure!(rc == 0, io::Error::last_os_error());
    Ok(())
}
