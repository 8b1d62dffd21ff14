//! What nginx's machinery for upstreams is configured with (ngx_http_upstream_conf_t), made while the
//! configuration is read.

use std::ptr;

use super::pool::kept;
use crate::ffi;

/// A value with variables, compiled.
pub type ComplexValue = ffi::ngx_http_complex_value_t;

/// See the module. In the configuration's pool, which lives as long as any request of it.
#[derive(Clone, Copy, Debug)]
pub struct Conf(*mut ffi::ngx_http_upstream_conf_t);

/// What a configuration says of an upstream. Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// `host`, `host:port`, `unix:path`, or the name of an `upstream` block.
    pub address: Vec<u8>,
    /// The scheme's.
    pub default_port: u16,
    /// How long connecting may take.
    pub connect_timeout: u64,
    /// How long the upstream may take over its answer.
    pub answer_timeout: u64,
    /// TLS, where it is wanted.
    pub tls: Option<Tls>,
}

/// TLS with an upstream. Paths as in nginx's directives.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Whether its certificate is verified.
    pub verify: bool,
    /// The authorities for that.
    pub trusted: Option<Vec<u8>>,
    /// A name in place of the address's, compiled.
    pub name: Option<*mut ComplexValue>,
    /// Our own certificate and its key.
    pub pair: Option<(Vec<u8>, Vec<u8>)>,
}

impl Conf {
    /// None: the reason has been logged.
    ///
    /// # Safety
    /// `cf` must be the configuration being read, in a location.
    pub unsafe fn new(cf: *mut ffi::ngx_conf_t, wanted: &Wanted) -> Option<Conf> {
        // SAFETY: by contract. All zero is nginx's own initial state (ngx_pcalloc), and a struct of
        // which everything is off; lists that were not given are marked as such.
        unsafe {
            let conf = ffi::ngx_pcalloc((*cf).pool, size_of::<ffi::ngx_http_upstream_conf_t>())
                .cast::<ffi::ngx_http_upstream_conf_t>();
            let c = conf.as_mut()?;
            // No limit is as long as nginx's timers go.
            let time = |ms: u64| ms.min(i32::MAX as u64) as ffi::ngx_msec_t;
            c.connect_timeout = time(wanted.connect_timeout);
            c.send_timeout = time(wanted.answer_timeout);
            c.read_timeout = time(wanted.answer_timeout);
            c.buffer_size = ffi::ngx_pagesize;
            c.next_upstream = (ffi::NGX_HTTP_UPSTREAM_FT_ERROR
                | ffi::NGX_HTTP_UPSTREAM_FT_TIMEOUT
                | ffi::NGX_HTTP_UPSTREAM_FT_INVALID_HEADER)
                as ffi::ngx_uint_t;
            c.request_buffering = 1;
            c.ignore_headers = ACCEL;
            c.module = text(b"websocket_proxy");
            c.upstream = add_upstream(cf, wanted)?;
            hide_accel(cf, c)?;
            if let Some(tls) = &wanted.tls {
                c.ssl = context(cf, tls)?;
                c.ssl_session_reuse = 1;
                c.ssl_server_name = 1;
                c.ssl_verify = tls.verify.into();
                c.ssl_name = tls.name.unwrap_or(ptr::null_mut());
            }
            Some(Conf(conf))
        }
    }

    pub(super) fn as_ptr(self) -> *mut ffi::ngx_http_upstream_conf_t {
        self.0
    }

    /// Whether the upstream is asked by TLS.
    pub fn is_tls(self) -> bool {
        // SAFETY: made by `new`, for as long as the configuration lives.
        unsafe { !(*self.0).ssl.is_null() }
    }
}

const fn text(bytes: &'static [u8]) -> ffi::ngx_str_t {
    ffi::ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}

/// The `upstream` block of this name, which may follow later, or one made of the address.
///
/// # Safety
/// `cf` must be the configuration being read.
unsafe fn add_upstream(
    cf: *mut ffi::ngx_conf_t,
    wanted: &Wanted,
) -> Option<*mut ffi::ngx_http_upstream_srv_conf_t> {
    // SAFETY: by contract; nginx keeps what is in its pool.
    unsafe {
        let mut url: ffi::ngx_url_t = std::mem::zeroed();
        url.url = kept((*cf).pool, &wanted.address)?;
        url.default_port = wanted.default_port;
        url.set_no_resolve(1);
        let upstream = ffi::ngx_http_upstream_add(cf, &mut url, 0);
        (!upstream.is_null()).then_some(upstream)
    }
}

/// What an upstream may tell the nginx before it. None of it is done: a 101 is not the kind of answer that it
/// is about (a redirect would let the client in elsewhere), and a refusal goes on as it is.
const ACCEL: ffi::ngx_uint_t = (ffi::NGX_HTTP_UPSTREAM_IGN_XA_REDIRECT
    | ffi::NGX_HTTP_UPSTREAM_IGN_XA_EXPIRES
    | ffi::NGX_HTTP_UPSTREAM_IGN_XA_LIMIT_RATE
    | ffi::NGX_HTTP_UPSTREAM_IGN_XA_BUFFERING
    | ffi::NGX_HTTP_UPSTREAM_IGN_XA_CHARSET) as ffi::ngx_uint_t;

/// Has the client not get those headers, as `proxy_pass` has it.
///
/// # Safety
/// `cf` must be the configuration being read.
unsafe fn hide_accel(
    cf: *mut ffi::ngx_conf_t,
    conf: &mut ffi::ngx_http_upstream_conf_t,
) -> Option<()> {
    let unset = usize::MAX as *mut ffi::ngx_array_t;
    // SAFETY: by contract; an all-zero struct above it has no table to share.
    unsafe {
        let mut above: ffi::ngx_http_upstream_conf_t = std::mem::zeroed();
        (above.hide_headers, above.pass_headers) = (unset, unset);
        (conf.hide_headers, conf.pass_headers) = (unset, unset);
        let mut names = [
            text(b"X-Accel-Redirect"),
            text(b"X-Accel-Expires"),
            text(b"X-Accel-Limit-Rate"),
            text(b"X-Accel-Buffering"),
            text(b"X-Accel-Charset"),
            ffi::ngx_str_t::empty(),
        ];
        let mut hash: ffi::ngx_hash_init_t = std::mem::zeroed();
        hash.max_size = 512;
        hash.bucket_size = 64;
        hash.name = c"websocket_proxy_headers_hash".as_ptr().cast_mut();
        let rc = ffi::ngx_http_upstream_hide_headers_hash(
            cf,
            conf,
            &mut above,
            names.as_mut_ptr(),
            &mut hash,
        );
        (rc == ffi::NGX_OK as isize).then_some(())
    }
}

/// A client's context for TLS, freed with the configuration.
///
/// # Safety
/// `cf` must be the configuration being read.
unsafe fn context(cf: *mut ffi::ngx_conf_t, tls: &Tls) -> Option<*mut ffi::ngx_ssl_t> {
    // SAFETY: by contract; all that nginx's functions are given is of the pool.
    unsafe {
        let ssl =
            ffi::ngx_pcalloc((*cf).pool, size_of::<ffi::ngx_ssl_t>()).cast::<ffi::ngx_ssl_t>();
        let context = ssl.as_mut()?;
        context.log = (*cf).log;
        let protocols = ffi::NGX_SSL_TLSv1_2 | ffi::NGX_SSL_TLSv1_3;
        if ffi::ngx_ssl_create(ssl, protocols as ffi::ngx_uint_t, ptr::null_mut()) != 0 {
            return None;
        }
        let cleanup = ffi::ngx_pool_cleanup_add((*cf).pool, 0);
        if cleanup.is_null() {
            ffi::ngx_ssl_cleanup_ctx(ssl.cast());
            return None;
        }
        (*cleanup).handler = Some(ffi::ngx_ssl_cleanup_ctx);
        (*cleanup).data = ssl.cast();
        if let Some((certificate, key)) = &tls.pair {
            let (mut certificate, mut key) =
                (kept((*cf).pool, certificate)?, kept((*cf).pool, key)?);
            let none = ptr::null_mut();
            if ffi::ngx_ssl_certificate(cf, ssl, &mut certificate, &mut key, none) != 0 {
                return None;
            }
        }
        if let Some(trusted) = &tls.trusted {
            let mut trusted = kept((*cf).pool, trusted)?;
            if ffi::ngx_ssl_trusted_certificate(cf, ssl, &mut trusted, DEPTH) != 0 {
                return None;
            }
        }
        Some(ssl)
    }
}

/// Certificates between the upstream's and one that is trusted: `proxy_ssl_verify_depth`'s default
/// stops at the first below a root, where many names have one more.
const DEPTH: ffi::ngx_int_t = 3;
