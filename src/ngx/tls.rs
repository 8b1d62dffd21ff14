//! TLS contexts, and that of a listener: a server's, made at run time from PEM files. nginx's own wrappers make
//! the context (protocols, options, buffers, as in `ssl_certificate`), OpenSSL's file functions
//! fill it, because nginx's log their errors instead of returning them.

use std::ffi::{c_char, c_void, CStr, CString};
use std::fmt;
use std::mem;
use std::ptr;

use super::{errno, log};
use crate::ffi;

/// Distinguishes our sessions from those of nginx's own servers.
const SESSION_CONTEXT: &[u8] = b"nginx-lua-websocket";

/// ERR_SYSTEM_FLAG of OpenSSL 3.
const SYSTEM: u64 = 1 << 31;

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// It is not asked for one.
    No,
    /// It is asked; one that it shows must be valid.
    Optional,
    /// Without a valid one the connection is closed.
    Required,
}

/// What a context is made of. Paths as OpenSSL opens them: relative ones from the working directory.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// PEM files: a certificate and the chain above it (the certificate first), and its key. Two
    /// pairs of different kinds (RSA, ECDSA) are offered together.
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// PEM file of the authorities that client certificates are checked against.
    pub ca: Option<Vec<u8>>,
    /// Whether clients are asked for a certificate.
    pub verify: Verify,
    /// Names as in `ssl_protocols`; none stands for TLSv1.2 and TLSv1.3.
    pub protocols: Vec<Vec<u8>>,
    /// OpenSSL's cipher list for TLS up to 1.2.
    pub ciphers: Option<Vec<u8>>,
}

/// Why no context could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// No such protocol.
    Protocol(String),
    /// What OpenSSL says of a file, or of certificate and key together.
    Refused(&'static str, String, String),
    /// A path with a NUL byte.
    Path,
    /// OpenSSL has no memory.
    Memory,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Protocol(name) => write!(f, "unknown tls protocol \"{name}\""),
            TlsError::Refused(what, name, why) => write!(f, "cannot load {what} \"{name}\": {why}"),
            TlsError::Path => f.write_str("bad file name"),
            TlsError::Memory => f.write_str("no memory"),
        }
    }
}

impl std::error::Error for TlsError {}

/// OpenSSL's context, of a server or a client. Connections hold counts of their own (SSL_new).
pub(super) struct Context(Box<ffi::ngx_ssl_t>);

impl Context {
    /// An empty one, for these protocols (nginx's bits).
    pub(super) fn new(protocols: u32) -> Result<Context, TlsError> {
        // SAFETY: an all-zero ngx_ssl_t is what nginx itself starts from (ngx_pcalloc).
        let mut ssl: Box<ffi::ngx_ssl_t> = Box::new(unsafe { mem::zeroed() });
        // SAFETY: `ngx_cycle` and its log live as long as the process.
        let rc = unsafe {
            ssl.log = (*ffi::ngx_cycle).log;
            ffi::ngx_ssl_create(&mut *ssl, protocols as ffi::ngx_uint_t, ptr::null_mut())
        };
        let context = Context(ssl);
        if rc != ffi::NGX_OK as isize {
            return Err(TlsError::Memory);
        }
        // SAFETY: the context is alive, and the function needs no data.
        unsafe { ffi::SSL_CTX_set_default_passwd_cb(context.ctx(), Some(no_password)) };
        Ok(context)
    }

    /// Takes a certificate with the chain above it, and its key, from PEM files.
    pub(super) fn load_pair(&self, certificate: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let (cert_path, key_path) = (path(certificate)?, path(key)?);
        // SAFETY: the context is alive, both texts are NUL-terminated.
        unsafe {
            ffi::ERR_clear_error();
            let ok = ffi::SSL_CTX_use_certificate_chain_file(self.ctx(), cert_path.as_ptr());
            refused(ok, "certificate", certificate)?;
            let pem = ffi::SSL_FILETYPE_PEM as i32;
            let ok = ffi::SSL_CTX_use_PrivateKey_file(self.ctx(), key_path.as_ptr(), pem);
            refused(ok, "private key", key)?;
            refused(ffi::SSL_CTX_check_private_key(self.ctx()), "private key", key)
        }
    }

    /// Takes authorities from a PEM file.
    pub(super) fn load_authorities(&self, ca: &[u8]) -> Result<(), TlsError> {
        let file = path(ca)?;
        // SAFETY: the context is alive, the text is NUL-terminated.
        unsafe {
            ffi::ERR_clear_error();
            let ok = ffi::SSL_CTX_load_verify_locations(self.ctx(), file.as_ptr(), ptr::null());
            refused(ok, "authorities", ca)
        }
    }

    pub(super) fn ctx(&self) -> *mut ffi::SSL_CTX {
        self.0.ctx
    }

    /// Prepares `c` for a handshake; flags as of ngx_ssl_create_connection. False: no memory.
    ///
    /// # Safety
    /// `c` must be alive.
    pub(super) unsafe fn attach(&self, c: *mut ffi::ngx_connection_t, flags: u32) -> bool {
        // SAFETY: by contract; nginx only reads the context's struct.
        let rc = unsafe {
            let ssl = ptr::from_ref(&*self.0).cast_mut();
            ffi::ngx_ssl_create_connection(ssl, c, flags as ffi::ngx_uint_t)
        };
        rc == ffi::NGX_OK as isize
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.0.ctx.is_null() {
            // SAFETY: gives our count of the context back; nginx's own cleanup function.
            unsafe { ffi::ngx_ssl_cleanup_ctx(ptr::from_mut(&mut *self.0).cast::<c_void>()) };
        }
    }
}

/// A server context. Owned by a listener.
pub struct Tls {
    context: Context,
    verify: Verify,
}

impl Tls {
    /// Makes a context.
    pub fn new(options: &TlsOptions) -> Result<Tls, TlsError> {
        let context = Context::new(protocols(&options.protocols)?)?;
        let tls = Tls { context, verify: options.verify };
        for (certificate, key) in &options.pairs {
            tls.context.load_pair(certificate, key)?;
        }
        if let Some(ciphers) = &options.ciphers {
            let list = path(ciphers)?;
            // SAFETY: the context is alive, the text is NUL-terminated.
            let ok = unsafe { ffi::SSL_CTX_set_cipher_list(tls.context.ctx(), list.as_ptr()) };
            refused(ok, "ciphers", ciphers)?;
        }
        tls.set_verify(options)?;
        Ok(tls)
    }

    fn set_verify(&self, options: &TlsOptions) -> Result<(), TlsError> {
        let ctx = self.context.ctx();
        // SAFETY: the context is alive; texts are NUL-terminated; the list of names passes to it.
        unsafe {
            // Sessions of a context that verifies clients must be told apart (OpenSSL refuses to
            // resume them otherwise).
            let (id, len) = (SESSION_CONTEXT.as_ptr(), SESSION_CONTEXT.len() as u32);
            ffi::SSL_CTX_set_session_id_context(ctx, id, len);
            if let Some(ca) = &options.ca {
                self.context.load_authorities(ca)?;
                let names = ffi::SSL_load_client_CA_file(path(ca)?.as_ptr());
                refused(i32::from(!names.is_null()), "authorities", ca)?;
                ffi::SSL_CTX_set_client_CA_list(ctx, names);
            }
            let mode = match options.verify {
                Verify::No => return Ok(()),
                _ => ffi::SSL_VERIFY_PEER,
            };
            ffi::SSL_CTX_set_verify(ctx, mode as i32, Some(pass));
        }
        Ok(())
    }

    /// Prepares `c` for a handshake as a server. False: no memory.
    ///
    /// # Safety
    /// `c` must be alive.
    pub(super) unsafe fn attach(&self, c: *mut ffi::ngx_connection_t) -> bool {
        // SAFETY: by contract.
        unsafe { self.context.attach(c, ffi::NGX_SSL_BUFFER) }
    }

    /// Whether the client of a finished handshake may go on; why not is logged.
    ///
    /// # Safety
    /// `c` must be alive, and its handshake one of this context.
    pub(super) unsafe fn admits(&self, c: *mut ffi::ngx_connection_t) -> bool {
        if self.verify == Verify::No {
            return true;
        }
        let mut verdict = ffi::ngx_str_t::empty();
        // SAFETY: by contract; the text is made in the connection's pool or static.
        unsafe {
            if ffi::ngx_ssl_get_client_verify(c, (*c).pool, &mut verdict) != ffi::NGX_OK as isize {
                return false;
            }
            let admitted = match verdict.as_bytes() {
                b"SUCCESS" => true,
                b"NONE" => self.verify == Verify::Optional,
                _ => false,
            };
            if !admitted {
                let verdict = String::from_utf8_lossy(verdict.as_bytes());
                log::info((*c).log, &format!("client certificate refused: {verdict}"));
            }
            admitted
        }
    }
}

/// Lets the handshake go on, as nginx does: `admits` judges afterwards, and logs at info level
/// what OpenSSL's own refusal would have nginx log at crit.
unsafe extern "C" fn pass(_ok: i32, _store: *mut ffi::X509_STORE_CTX) -> i32 {
    1
}

/// There is no password for a key: OpenSSL by itself asks for one at the terminal, and waits.
unsafe extern "C" fn no_password(
    _to: *mut c_char,
    _size: i32,
    _writes: i32,
    _data: *mut c_void,
) -> i32 {
    0
}

fn path(bytes: &[u8]) -> Result<CString, TlsError> {
    CString::new(bytes).map_err(|_| TlsError::Path)
}

fn protocols(names: &[Vec<u8>]) -> Result<u32, TlsError> {
    if names.is_empty() {
        return Ok(ffi::NGX_SSL_TLSv1_2 | ffi::NGX_SSL_TLSv1_3);
    }
    names.iter().try_fold(0, |mask, name| {
        Ok(mask
            | match name.as_slice() {
                b"TLSv1" => ffi::NGX_SSL_TLSv1,
                b"TLSv1.1" => ffi::NGX_SSL_TLSv1_1,
                b"TLSv1.2" => ffi::NGX_SSL_TLSv1_2,
                b"TLSv1.3" => ffi::NGX_SSL_TLSv1_3,
                _ => {
                    return Err(TlsError::Protocol(String::from_utf8_lossy(name).into_owned()));
                }
            })
    })
}

/// OpenSSL's result as ours: its reason for the first error it queued.
fn refused(ok: i32, what: &'static str, name: &[u8]) -> Result<(), TlsError> {
    if ok == 1 {
        return Ok(());
    }
    // SAFETY: the queue is this thread's; the text is static or null.
    let reason = unsafe {
        let code = ffi::ERR_get_error();
        let text: *const c_char = ffi::ERR_reason_error_string(code);
        let reason = match text.is_null() {
            // OpenSSL 3 marks what the system said, and has no texts for that.
            true if code & SYSTEM != 0 => errno::text((code & (SYSTEM - 1)) as i32),
            true => "refused by openssl".to_string(),
            false => CStr::from_ptr(text).to_string_lossy().to_lowercase(),
        };
        ffi::ERR_clear_error();
        reason
    };
    Err(TlsError::Refused(what, String::from_utf8_lossy(name).into_owned(), reason))
}
