//! TLS of a connection that this worker makes: whom it trusts, what it shows, and whose name it
//! wants to see. The server is judged by its certificate (RFC 6125 by OpenSSL), unless that is off.

use std::ffi::{CStr, CString};
use std::net::IpAddr;
use std::ptr;

use super::tls::{Context, TlsError};
use crate::ffi;

/// What a client is made of; files are PEM.
#[derive(Clone, Debug, Default)]
pub struct TlsClientOptions {
    /// The authorities that are trusted; the system's where none are given.
    pub ca: Option<Vec<u8>>,
    /// A certificate, with the chain above it, and its key, for servers that ask for one.
    pub pair: Option<(Vec<u8>, Vec<u8>)>,
    /// Whose name the server's certificate must have, instead of the host's.
    pub name: Option<String>,
    /// Any certificate will do.
    pub unverified: bool,
}

/// A client context. Owned by the configuration.
pub struct TlsClient {
    context: Context,
    name: Option<String>,
    verified: bool,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClient")
    }
}

impl TlsClient {
    /// Makes a context.
    pub fn new(options: &TlsClientOptions) -> Result<TlsClient, TlsError> {
        let context = Context::new(ffi::NGX_SSL_TLSv1_2 | ffi::NGX_SSL_TLSv1_3)?;
        match &options.ca {
            Some(ca) => context.load_authorities(ca)?,
            // SAFETY: the context is alive.
            None => _ = unsafe { ffi::SSL_CTX_set_default_verify_paths(context.ctx()) },
        }
        if let Some((certificate, key)) = &options.pair {
            context.load_pair(certificate, key)?;
        }
        Ok(TlsClient { context, name: options.name.clone(), verified: !options.unverified })
    }

    /// Prepares `c` for a handshake with `host`. False: no memory.
    ///
    /// # Safety
    /// `c` must be alive, and have a pool.
    pub(super) unsafe fn attach(&self, c: *mut ffi::ngx_connection_t, host: &str) -> bool {
        let name = self.name.as_deref().unwrap_or(host);
        let Ok(text) = CString::new(name) else { return false };
        // SAFETY: by contract; OpenSSL copies the name.
        unsafe {
            if !self.context.attach(c, ffi::NGX_SSL_BUFFER | ffi::NGX_SSL_CLIENT) {
                return false;
            }
            let ssl = (*(*c).ssl).connection;
            let param = ffi::SSL_get0_param(ssl);
            if name.parse::<IpAddr>().is_ok() {
                // An address is no server name (RFC 6066 3).
                return ffi::X509_VERIFY_PARAM_set1_ip_asc(param, text.as_ptr()) == 1;
            }
            let (command, kind) =
                (ffi::SSL_CTRL_SET_TLSEXT_HOSTNAME, ffi::TLSEXT_NAMETYPE_host_name);
            let text = text.as_ptr();
            ffi::SSL_ctrl(ssl, command as i32, kind.into(), text.cast_mut().cast());
            ffi::X509_VERIFY_PARAM_set1_host(param, text, name.len()) == 1
        }
    }

    /// Whether the server of a finished handshake is the one that was meant.
    ///
    /// # Safety
    /// `c` must be alive, and its handshake one of this context.
    pub(super) unsafe fn admits(&self, c: *mut ffi::ngx_connection_t) -> Result<(), String> {
        if !self.verified {
            return Ok(());
        }
        // SAFETY: by contract; the text is static, or null.
        unsafe {
            let verdict = ffi::SSL_get_verify_result((*(*c).ssl).connection);
            if verdict == ffi::X509_V_OK as std::ffi::c_long {
                return Ok(());
            }
            let text = ffi::X509_verify_cert_error_string(verdict);
            let why = match ptr::NonNull::new(text.cast_mut()) {
                Some(text) => CStr::from_ptr(text.as_ptr()).to_string_lossy().to_lowercase(),
                None => "unknown".to_string(),
            };
            Err(format!("the server's certificate is refused: {why}"))
        }
    }
}
