//! What nginx's access log needs of a request that is freed before its line is written: the values of
//! variables are saved, those that only the end knows are made then. Of a variable that is not known here
//! nobody can say which it is, so a location with one keeps its requests, as does one with a log that is
//! not known: a handler of another module (`log_by_lua` is one), a path with variables. What a variable
//! that can be saved is made of (a `map`) is seen by what it asks for while it is saved.
//!
//! The log module's configuration is private to it. These structs have been the same since nginx 1.7,
//! and are believed only where what their arrays say of themselves fits.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr;
use std::rc::Rc;

use super::http_conf::{core_location, core_main};
use super::log;
use super::variable_names::{kind_of, Kind};
use crate::ffi;

/// ngx_http_log_main_conf_t, its beginning.
#[repr(C)]
struct MainConf {
    formats: ffi::ngx_array_t,
}

/// ngx_http_log_loc_conf_t, its beginning.
#[repr(C)]
struct LocConf {
    logs: *mut ffi::ngx_array_t,
}

/// ngx_http_log_t.
#[repr(C)]
struct Log {
    file: *mut ffi::ngx_open_file_t,
    script: *mut libc::c_void,
    disk_full_time: ffi::time_t,
    error_log_time: ffi::time_t,
    syslog_peer: *mut libc::c_void,
    format: *mut Format,
    filter: *mut ffi::ngx_http_complex_value_t,
}

/// ngx_http_log_fmt_t.
#[repr(C)]
struct Format {
    name: ffi::ngx_str_t,
    flushes: *mut ffi::ngx_array_t,
    ops: *mut ffi::ngx_array_t,
}

/// ngx_http_log_op_t: `data` is a variable's index where there is a `getlen`.
#[repr(C)]
struct Op {
    len: usize,
    getlen: *const libc::c_void,
    run: *const libc::c_void,
    data: usize,
}

/// The variables that the logs of a location want, by their index.
struct Plan {
    /// To be saved.
    saved: Vec<u16>,
    /// All that cannot be, of the whole configuration.
    unsaved: Vec<u16>,
}

/// A location, as far as its log is concerned.
struct Known {
    plan: Result<Plan, String>,
    /// It has been said that its requests stay.
    told: Cell<bool>,
}

thread_local! {
    /// By location: where its configuration lies. A worker has one configuration; nginx that runs as one
    /// process lives on after a reload, but takes no connections any more (ngx_single_process_cycle
    /// leaves the new cycle without any).
    static KNOWN: RefCell<HashMap<usize, Rc<Known>>> = RefCell::default();
}

/// Values of variables: for each its index, its length and its bytes.
pub(super) struct Saved(Box<[u8]>);

/// The length of a value that is not found.
const NOT_FOUND: u32 = u32::MAX;

/// Saves what the access log needs of a request; or why that cannot be.
///
/// # Safety
/// `r` must be alive.
pub(super) unsafe fn save(r: *mut ffi::ngx_http_request_t) -> Result<Saved, String> {
    // SAFETY: by contract; indexes are below the number of variables, see `Plan::add`.
    unsafe {
        let known = known(r);
        let plan = known.plan.as_ref().map_err(String::clone)?;
        let values = (*r).variables;
        // What is asked here must not be what is logged, should the request stay.
        let before = ffi::slice(values.cast_const(), variables(r).len()).to_vec();
        for index in &plan.unsaved {
            (*values.add((*index).into())).set_valid(0);
            (*values.add((*index).into())).set_not_found(0);
        }
        let mut all = Vec::new();
        for index in &plan.saved {
            let value = ffi::ngx_http_get_flushed_variable(r, (*index).into());
            let value = value.as_ref().filter(|value| value.not_found() == 0);
            let bytes = value.map(|value| ffi::slice(value.data, value.len() as usize));
            all.extend_from_slice(&index.to_ne_bytes());
            all.extend_from_slice(&bytes.map_or(NOT_FOUND, |b| b.len() as u32).to_ne_bytes());
            all.extend_from_slice(bytes.unwrap_or_default());
        }
        // A map's value may depend on what cannot be saved, and has asked for it then.
        let asked = |index: &&u16| {
            let value = &*values.add((**index).into());
            value.valid() != 0 || value.not_found() != 0
        };
        match plan.unsaved.iter().find(asked) {
            Some(index) => {
                ptr::copy_nonoverlapping(before.as_ptr(), values, before.len());
                Err(format!(
                    "a variable of their log depends on ${}",
                    String::from_utf8_lossy(variables(r)[usize::from(*index)].name.as_bytes())
                ))
            }
            None => Ok(Saved(all.into_boxed_slice())),
        }
    }
}

impl Saved {
    /// Gives the values to another request, which is to be logged. False: no memory.
    ///
    /// # Safety
    /// `r` must be alive, and of the same configuration as the one that they were saved of.
    pub(super) unsafe fn give_back(&self, r: *mut ffi::ngx_http_request_t) -> bool {
        // SAFETY: by contract. The copy lives as long as the request whose values point into it.
        unsafe {
            let copy = ffi::ngx_pnalloc((*r).pool, self.0.len().max(1)).cast::<u8>();
            if copy.is_null() {
                return false;
            }
            ptr::copy_nonoverlapping(self.0.as_ptr(), copy, self.0.len());
            let mut at = 0;
            while let Some((index, len)) = self.entry(at) {
                at += ENTRY;
                let value = &mut *(*r).variables.add(index.into());
                if len == NOT_FOUND {
                    value.set_not_found(1);
                    continue;
                }
                value.data = copy.add(at);
                value.set_len(len);
                value.set_valid(1);
                at += len as usize;
            }
            true
        }
    }

    fn entry(&self, at: usize) -> Option<(u16, u32)> {
        let (index, rest) = self.0.get(at..)?.split_first_chunk()?;
        let len = rest.first_chunk()?;
        Some((u16::from_ne_bytes(*index), u32::from_ne_bytes(*len)))
    }
}

/// Bytes before each value.
const ENTRY: usize = size_of::<u16>() + size_of::<u32>();

/// Says once in a worker why a location's requests live as long as their connections.
///
/// # Safety
/// `r` must be alive.
pub(super) unsafe fn tell_once(r: *mut ffi::ngx_http_request_t, reason: &str) {
    // SAFETY: by contract, and so is its configuration.
    unsafe {
        if known(r).told.replace(true) {
            return;
        }
        let name = (*core_location((*r).loc_conf)).name;
        log::notice(&format!(
            "websocket connections of location \"{}\" keep their requests: {reason}",
            String::from_utf8_lossy(ffi::slice(name.data, name.len))
        ));
    }
}

/// # Safety
/// `r` must be alive.
unsafe fn known(r: *mut ffi::ngx_http_request_t) -> Rc<Known> {
    // SAFETY: by contract.
    let key = unsafe { (*r).loc_conf as usize };
    KNOWN.with_borrow_mut(|all| {
        let make = || {
            // SAFETY: as above.
            let plan = unsafe { Plan::new(r) };
            Rc::new(Known { plan, told: Cell::new(false) })
        };
        all.entry(key).or_insert_with(make).clone()
    })
}

/// Every variable that has an index.
///
/// # Safety
/// `r` must be alive, and its configuration for `'a`.
unsafe fn variables<'a>(r: *mut ffi::ngx_http_request_t) -> &'a [ffi::ngx_http_variable_t] {
    // SAFETY: by contract; complete since the configuration was read.
    unsafe {
        let all = &(*core_main((*r).main_conf)).variables;
        ffi::slice(all.elts.cast(), all.nelts)
    }
}

/// The elements of one of nginx's arrays, if they are as large as a `T`.
///
/// # Safety
/// `array` must be null, or one of nginx's arrays that stays for `'a`.
unsafe fn elements<'a, T>(array: *const ffi::ngx_array_t) -> Option<&'a [T]> {
    // SAFETY: by contract.
    unsafe {
        let array = array.as_ref()?;
        (array.size == size_of::<T>()).then(|| ffi::slice(array.elts.cast(), array.nelts))
    }
}

impl Plan {
    /// # Safety
    /// `r` must be alive.
    unsafe fn new(r: *mut ffi::ngx_http_request_t) -> Result<Plan, String> {
        let unknown = || "nginx's log module is not the one that is known".to_string();
        // SAFETY: by contract, and with it its configuration. What is private to the log module is
        // followed as far as it looks right.
        unsafe {
            let phases = &(*core_main((*r).main_conf)).phases;
            if phases[ffi::ngx_http_phases_NGX_HTTP_LOG_PHASE as usize].handlers.nelts != 1 {
                return Err("another module logs requests, or log_by_lua does".to_string());
            }
            let module = log_module().ok_or_else(unknown)?;
            let main = *(*r).main_conf.add(module);
            let formats = elements::<Format>(ptr::addr_of!((*main.cast::<MainConf>()).formats))
                .filter(|all| all.first().is_some_and(|f| f.name.as_bytes() == b"combined"))
                .ok_or_else(unknown)?;
            let logs = (*(*(*r).loc_conf.add(module)).cast::<LocConf>()).logs;
            let logs: &[Log] = match logs.is_null() {
                true => &[],
                false => elements(logs).ok_or_else(unknown)?,
            };
            let variables = variables(r);
            if variables.len() > usize::from(u16::MAX) {
                return Err("there are too many variables".to_string());
            }
            let unsaved = (0..variables.len()).filter(|n| kind_of(&variables[*n]) != Kind::Saved);
            let unsaved = unsaved.map(|n| n as u16).collect();
            let mut plan = Plan { saved: Vec::new(), unsaved };
            for log in logs {
                if !log.script.is_null() {
                    return Err("the path of their log has variables".to_string());
                }
                // The array may have moved since it was taken: its elements are copies then.
                let format = log.format.as_ref().ok_or_else(unknown)?;
                if !formats.iter().any(|f| ptr::eq(f.ops, format.ops)) {
                    return Err(unknown());
                }
                let ops = elements::<Op>(format.ops).ok_or_else(unknown)?;
                for op in ops.iter().filter(|op| !op.getlen.is_null()) {
                    plan.add(variables, op.data)?;
                }
                if let Some(filter) = log.filter.as_ref() {
                    let text = filter.value.as_bytes();
                    if text.windows(2).any(|w| w[0] == b'$' && w[1].is_ascii_digit()) {
                        return Err("the condition of their log has a group of a match".to_string());
                    }
                    let mut index = filter.flushes;
                    while !index.is_null() && *index != usize::MAX {
                        plan.add(variables, *index)?;
                        index = index.add(1);
                    }
                }
            }
            Ok(plan)
        }
    }

    /// The log wants this variable.
    fn add(&mut self, all: &[ffi::ngx_http_variable_t], index: usize) -> Result<(), String> {
        let variable = all.get(index).ok_or("a log names a variable that is none")?;
        match kind_of(variable) {
            Kind::Saved if !self.saved.contains(&(index as u16)) => self.saved.push(index as u16),
            Kind::Saved | Kind::End => {}
            Kind::Unknown => {
                let name = String::from_utf8_lossy(variable.name.as_bytes());
                return Err(format!("their log has ${name}"));
            }
        }
        Ok(())
    }
}

/// Where the log module's configuration stands among the http modules'.
fn log_module() -> Option<usize> {
    // SAFETY: the cycle's list of modules lives as long as the process, and ends with null.
    unsafe {
        let mut module = (*ffi::ngx_cycle).modules;
        while !(*module).is_null() {
            let name = (**module).name;
            if !name.is_null() && CStr::from_ptr(name) == c"ngx_http_log_module" {
                return Some((**module).ctx_index);
            }
            module = module.add(1);
        }
        None
    }
}
