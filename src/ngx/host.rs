//! What the machine calls itself and its network interfaces.

use std::ffi::CStr;
use std::net::IpAddr;
use std::ptr;

use super::sockaddr::ip;
use crate::ffi;

/// The machine's name, as nginx read it when it started.
pub fn name() -> Vec<u8> {
    // SAFETY: the cycle lives as long as the process runs, and its name with it.
    unsafe { (*ffi::ngx_cycle).hostname.as_bytes().to_vec() }
}

/// The address of the network interface of this name: IPv4 if it has one.
pub fn interface(name: &[u8]) -> Option<IpAddr> {
    let mut list = ptr::null_mut();
    // SAFETY: `list` is an out-parameter.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return None;
    }
    let mut found = None;
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: entries of the list are valid until it is freed; names are NUL-terminated; an
        // address, where there is one, is of the size that its family says.
        unsafe {
            let address = (*entry).ifa_addr;
            if CStr::from_ptr((*entry).ifa_name).to_bytes() == name && !address.is_null() {
                match ip(address) {
                    Some(IpAddr::V4(address)) => {
                        found = Some(IpAddr::V4(address));
                        break;
                    }
                    address if found.is_none() => found = address,
                    _ => {}
                }
            }
            entry = (*entry).ifa_next;
        }
    }
    // SAFETY: the list of above, freed once.
    unsafe { libc::freeifaddrs(list) };
    found
}
