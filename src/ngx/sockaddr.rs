//! Addresses as the system writes them (`sockaddr`), read.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr;

/// The address and the port, if it is of IP.
///
/// # Safety
/// `at` must be of the size that its family says.
pub(super) unsafe fn address(at: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: by contract.
    unsafe {
        match i32::from((*at).sa_family) {
            libc::AF_INET => {
                let v4 = &*at.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddr::from((ip, u16::from_be(v4.sin_port))))
            }
            libc::AF_INET6 => {
                let v6 = &*at.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddr::from((ip, u16::from_be(v6.sin6_port))))
            }
            _ => None,
        }
    }
}

/// The address alone.
///
/// # Safety
/// As for `address`.
pub(super) unsafe fn ip(at: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by contract.
    unsafe { address(at) }.map(|at| at.ip())
}

/// The address a socket is bound to.
pub(super) fn local_address(fd: i32) -> Option<SocketAddr> {
    // SAFETY: the kernel fills at most the length that it is told.
    unsafe {
        let mut storage: libc::sockaddr_storage = mem::zeroed();
        let mut len = mem::size_of_val(&storage) as libc::socklen_t;
        let at = ptr::addr_of_mut!(storage).cast::<libc::sockaddr>();
        (libc::getsockname(fd, at, &mut len) == 0).then(|| address(at)).flatten()
    }
}
