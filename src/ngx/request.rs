//! nginx's request, as far as the opening handshake and the Lua entry need it.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::ptr::NonNull;

use ws_proto::handshake::server::ClientHandshake;

use super::guard::guarded;
use super::http_conf::core_main;
use super::log;
use crate::ffi;

/// A request that is alive: handed out while its own Lua code or event handler runs, and not to be
/// kept beyond that (`'a` is the time of that call).
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    r: NonNull<ffi::ngx_http_request_t>,
    call: PhantomData<&'a ()>,
}

impl<'a> Request<'a> {
    /// Wraps nginx's pointer; None for a null one.
    ///
    /// # Safety
    /// `r` must be null or stay alive for `'a`.
    pub unsafe fn from_ptr(r: *mut ffi::ngx_http_request_t) -> Option<Request<'a>> {
        NonNull::new(r).map(|r| Request { r, call: PhantomData })
    }

    pub(crate) fn as_ptr(self) -> *mut ffi::ngx_http_request_t {
        self.r.as_ptr()
    }

    fn raw(&self) -> &'a ffi::ngx_http_request_t {
        // SAFETY: alive for 'a by construction; nginx changes it only between our calls.
        unsafe { self.r.as_ref() }
    }

    /// Request headers in the order they came, names as sent. Headers that Lua code cleared
    /// (ngx.req.clear_header marks them with hash 0) are left out, those it set are in.
    pub fn headers(self) -> Vec<(&'a [u8], &'a [u8])> {
        list(&self.raw().headers_in.headers)
    }

    /// The first response header of this name.
    pub fn response_header(self, name: &[u8]) -> Option<&'a [u8]> {
        list(&self.raw().headers_out.headers)
            .into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// An info line in the connection's log (see `Link::info`).
    pub fn info(self, text: &str) {
        // SAFETY: alive by construction, and so is its connection.
        log::info(unsafe { (*self.raw().connection).log }, text);
    }

    /// Keeps the request alive after its content handler has returned; given back by
    /// `Link::finish_request`. Returns what the content handler returns.
    pub fn hold(self) -> isize {
        // SAFETY: alive by construction; counting is how nginx knows that somebody still works
        // on the request (nginx development guide, "Request finalization").
        unsafe {
            let main = (*self.as_ptr()).main;
            ffi::HTTP_REQUEST_COUNT.set(main, ffi::HTTP_REQUEST_COUNT.get(main) + 1);
        }
        ffi::NGX_DONE as isize
    }

    /// Has `told` called when the request ends. False, and it is dropped: no memory.
    pub fn at_end(self, told: Box<dyn FnOnce()>) -> bool {
        // SAFETY: alive by construction. nginx runs a pool's cleanup once; it owns the box.
        unsafe {
            let cleanup = ffi::ngx_pool_cleanup_add(self.raw().pool, 0);
            if cleanup.is_null() {
                return false;
            }
            (*cleanup).data = Box::into_raw(Box::new(told)).cast();
            (*cleanup).handler = Some(tell);
        }
        true
    }

    /// A number for its location, as it is now: its configuration, which timers inherit.
    pub fn location_key(self) -> i64 {
        self.raw().loc_conf as i64
    }

    /// The query string.
    pub fn args(self) -> &'a [u8] {
        // SAFETY: points into the request's own buffers, alive for 'a.
        unsafe { bytes(&self.raw().args) }
    }

    /// The request target as the client sent it.
    pub fn target(self) -> &'a [u8] {
        // SAFETY: points into the request's own buffers, alive for 'a.
        unsafe { bytes(&self.raw().unparsed_uri) }
    }

    /// The client's address, as text; of a unix socket `unix:`.
    pub fn client(self) -> &'a [u8] {
        // SAFETY: alive by construction, and so is its connection.
        unsafe { bytes(&(*self.raw().connection).addr_text) }
    }

    /// Whether the client has come by TLS.
    pub fn is_tls(self) -> bool {
        // SAFETY: alive by construction, and so is its connection.
        unsafe { !(*self.raw().connection).ssl.is_null() }
    }

    /// The method's name as the client sent it.
    pub fn method(self) -> &'a [u8] {
        // SAFETY: points into the request's own buffers, alive for 'a.
        unsafe { bytes(&self.raw().method_name) }
    }

    /// The request as the opening handshake looks at it; `headers` are its own.
    pub fn handshake<'h>(self, headers: &'h [(&'h [u8], &'h [u8])]) -> ClientHandshake<'h>
    where
        'a: 'h,
    {
        ClientHandshake {
            method: self.method(),
            http11: self.is_http11(),
            host: headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host")),
            headers,
        }
    }

    /// Whether the client spoke HTTP/1.1 (not 1.0, 2 or 3).
    fn is_http11(self) -> bool {
        self.raw().http_version == ffi::NGX_HTTP_VERSION_11 as usize
    }

    /// Whether a header can be sent at once: a main request that has no body to be read and has not
    /// been answered, in a phase of ngx_lua that may answer it.
    pub fn may_answer(self) -> bool {
        /// rewrite, access and content, in the bits that lua-resty-core knows phases by.
        const PHASES: c_int = 0x2 | 0x4 | 0x8;
        let r = self.raw();
        let mut text = std::ptr::null_mut();
        // SAFETY: alive by construction; the text is static, and not looked at.
        let phase = unsafe { ffi::ngx_http_lua_ffi_get_phase(self.as_ptr(), &mut text) };
        // SAFETY: alive by construction.
        let answered = unsafe { ffi::HTTP_REQUEST_HEADER_SENT.get(r) } != 0;
        phase > 0
            && phase & !PHASES == 0
            && std::ptr::eq(r.main, r)
            && !answered
            && !self.has_body()
    }

    /// Whether the request announces a body.
    pub fn has_body(self) -> bool {
        let headers = &self.raw().headers_in;
        headers.content_length_n >= 0 || headers.chunked() != 0
    }

    /// Whether nginx is still throwing away the body of this request, which somebody has answered
    /// without it (`return`, before an `error_page` that leads elsewhere).
    pub fn discards_body(self) -> bool {
        // SAFETY: alive by construction.
        unsafe { ffi::HTTP_REQUEST_DISCARD_BODY.get(self.raw()) != 0 }
    }

    /// Has the connection closed after the response, which says so.
    pub fn close_after(self) {
        // SAFETY: alive by construction.
        unsafe { ffi::HTTP_REQUEST_KEEPALIVE.set(self.as_ptr(), 0) };
    }

    /// Whether this is a request that nginx made itself, for a part of another one's answer.
    pub fn is_subrequest(self) -> bool {
        !std::ptr::eq(self.raw().main, self.raw())
    }

    /// The value of an nginx variable that something in the configuration uses, evaluated once for
    /// the request. None for one that nothing uses: every look at it would be the first.
    pub fn used_variable(self, name: &'static [u8]) -> Option<&'a [u8]> {
        // SAFETY: alive by construction. The hash is nginx's, made when the configuration was read;
        // names in it are in lower case, as `name` must be.
        unsafe {
            let conf = core_main(self.raw().main_conf);
            let text = name.as_ptr().cast_mut();
            let key = ffi::ngx_hash_key(text, name.len());
            let hash = std::ptr::addr_of_mut!((*conf).variables_hash);
            let found = ffi::ngx_hash_find(hash, key, text, name.len());
            let variable = found.cast::<ffi::ngx_http_variable_t>().as_ref()?;
            if variable.flags & ffi::NGX_HTTP_VAR_INDEXED as ffi::ngx_uint_t == 0 {
                return None;
            }
            let value =
                ffi::ngx_http_get_indexed_variable(self.as_ptr(), variable.index).as_ref()?;
            (value.not_found() == 0).then(|| ffi::slice(value.data, value.len() as usize))
        }
    }
}

/// Pool cleanup of `Request::at_end`.
unsafe extern "C" fn tell(data: *mut std::ffi::c_void) {
    // SAFETY: `at_end` has left the box here, and this is its only call.
    let told = unsafe { Box::from_raw(data.cast::<Box<dyn FnOnce()>>()) };
    guarded("request cleanup", (), told);
}

/// Name and value of every header in one of nginx's lists that has not been cleared.
fn list<'a>(headers: &ffi::ngx_list_t) -> Vec<(&'a [u8], &'a [u8])> {
    let mut found = Vec::with_capacity(16);
    let mut part: *const ffi::ngx_list_part_t = &headers.part;
    while !part.is_null() {
        // SAFETY: a list part holds `nelts` initialised elements of the list's type (nginx
        // development guide, "Lists"), and lives in the request's pool.
        unsafe {
            let elts = (*part).elts.cast::<ffi::ngx_table_elt_t>();
            for i in 0..(*part).nelts {
                let header = &*elts.add(i);
                if header.hash != 0 {
                    found.push((bytes(&header.key), bytes(&header.value)));
                }
            }
            part = (*part).next;
        }
    }
    found
}

/// # Safety
/// `s` must describe memory that stays alive and unchanged for `'a`.
unsafe fn bytes<'a>(s: &ffi::ngx_str_t) -> &'a [u8] {
    // SAFETY: by contract of this function.
    unsafe { ffi::slice(s.data, s.len) }
}
