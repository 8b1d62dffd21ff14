//! A request that asks an upstream for a WebSocket, by nginx's own machinery (ngx_http_upstream):
//! choosing a peer (balancers, balancer_by_lua among them), connecting, TLS, the next peer, time-outs.
//! Whatever is no 101 goes to the client as nginx's proxies have it. A 101 goes to it too, and then
//! the connection is the caller's (`take`), until it gives it back (`close`).
//!
//! nginx (1.22 to 1.30) calls, in this order: `request_made` when a peer is to be asked, `answered` with
//! what came, then it sends the header, and `filter_init` before any body. There what follows a 101
//! is taken from it, and an event of ours posted, which runs once nginx is through with the header.

use std::ffi::c_void;
use std::mem;
use std::ptr;
use std::rc::Rc;

use ngx::ngx_log_error;
use ws_proto::handshake::client::{unfolded, Chunked, ResponseHead};

use super::guard::guarded;
use super::http_conf::upstream_main;
use super::leg::{Leads, Leg};
use super::link::Link;
use super::log::escaped;
use super::pool::kept;
use super::request::Request;
use super::respond::GoOn;
use super::switch::{has_left, once_sent};
use super::upstream_conf::Conf;
use crate::ffi;

/// What log lines begin an upstream's address with. A balancer that calls `set_upstream_tls` makes it as
/// long as "http://" or "https://" (ngx_http_lua_balancer.c), whatever it was: so much there is to read.
const WS: &[u8; 8] = b"ws://///";
const WSS: &[u8; 8] = b"wss:////";

/// Who asks an upstream.
pub trait Asks: 'static {
    /// Judges a 101, given without the empty line at its end, and readies the client's. An error is
    /// logged, and the next peer is asked, if there is one.
    fn granted(&self, r: Request, head: &[u8]) -> Result<(), String>;
    /// The client's 101 has left. `first` came behind the upstream's. Returns what a content handler
    /// returns, holding the request where it goes on.
    fn begin(&self, r: Request, first: &[u8]) -> isize;
}

/// One request's asking, in its pool's care.
struct Call<T> {
    asks: Rc<T>,
    r: *mut ffi::ngx_http_request_t,
    request: Vec<u8>,
    /// What came behind the 101.
    first: Vec<u8>,
    body: Option<Chunked>,
    begin: ffi::ngx_event_t,
}

/// Asks the upstream with `request`, whose target is `target`. Returns what a content handler returns.
pub fn ask<T: Asks>(r: Request, conf: Conf, request: Vec<u8>, target: &[u8], asks: Rc<T>) -> isize {
    const FAILED: isize = ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
    let done = r.hold();
    let r = r.as_ptr();
    // SAFETY: r is alive, and the count above keeps it so until nginx's machinery is through. The
    // call is freed by the request's pool, after the machinery has ended.
    unsafe {
        let cleanup = ffi::ngx_pool_cleanup_add((*r).pool, 0);
        let uri = ffi::ngx_pnalloc((*r).pool, target.len().max(1)).cast::<u8>();
        let body = body_of(r);
        if cleanup.is_null()
            || uri.is_null()
            || body.is_null()
            || ffi::ngx_http_upstream_create(r) != 0
        {
            ffi::HTTP_REQUEST_COUNT.set(r, ffi::HTTP_REQUEST_COUNT.get(r) - 1);
            return FAILED;
        }
        let call = Box::into_raw(Box::new(Call {
            asks,
            r,
            request,
            first: Vec::new(),
            body: None,
            begin: mem::zeroed(),
        }));
        (*call).begin.handler = Some(sent::<T>);
        (*call).begin.data = call.cast();
        (*call).begin.log = (*(*r).connection).log;
        (*cleanup).data = call.cast();
        (*cleanup).handler = Some(drop_call::<T>);
        ptr::copy_nonoverlapping(target.as_ptr(), uri, target.len());
        (*r).request_body = body;

        let u = &mut *(*r).upstream;
        u.conf = conf.as_ptr();
        let (schema, len) = if conf.is_tls() { (WSS, "wss://".len()) } else { (WS, "ws://".len()) };
        u.set_ssl(u32::from(conf.is_tls()));
        u.schema = ffi::ngx_str_t { len, data: schema.as_ptr().cast_mut() };
        u.uri = ffi::ngx_str_t { len: target.len(), data: uri };
        u.output.tag = ptr::addr_of_mut!(ffi::ngx_http_lua_websocket_module).cast();
        u.set_buffering(0);
        u.create_request = Some(request_made::<T>);
        u.reinit_request = Some(asked_anew::<T>);
        u.process_header = Some(answered::<T>);
        u.abort_request = Some(aborted);
        u.finalize_request = Some(finalized);
        u.input_filter_init = Some(filter_init::<T>);
        u.input_filter = Some(filter::<T>);
        u.input_filter_ctx = call.cast();
        ffi::ngx_http_upstream_init(r);
    }
    done
}

/// The request's body, an empty one where it has none: balancer_by_lua takes one for granted, as
/// nginx's proxies read it always. Null: no memory.
///
/// # Safety
/// `r` must be alive.
unsafe fn body_of(r: *mut ffi::ngx_http_request_t) -> *mut ffi::ngx_http_request_body_t {
    // SAFETY: by contract; all zero is a body without bytes.
    unsafe {
        match (*r).request_body {
            body if !body.is_null() => body,
            _ => ffi::ngx_pcalloc((*r).pool, size_of::<ffi::ngx_http_request_body_t>()).cast(),
        }
    }
}

/// Hands the events of the upstream's connection to `owner`. False: it has gone.
pub fn take<T: Leads>(r: Request, owner: &Rc<T>) -> bool {
    // SAFETY: r is alive; nginx's machinery keeps the connection open until `close` or the request's
    // end, and waits for none of its events once the 101 has left.
    unsafe {
        let u = (*r.as_ptr()).upstream;
        if u.is_null() || (*u).peer.connection.is_null() {
            return false;
        }
        let c = (*u).peer.connection;
        (*(*c).log).action = c"proxying upgraded connection".as_ptr().cast_mut();
        Leg::attach(owner, c);
    }
    true
}

/// Closes the connection to the upstream of a request that was taken over, if it has one; its leg has
/// been released. The request goes on.
pub fn close(link: &Link) {
    let r = link.request();
    if r.is_null() {
        return;
    }
    // SAFETY: not null means alive.
    unsafe { end_asking(r) };
}

/// Ends the machinery, if it goes on, by its own cleanup, which gives back the count that `ask` has taken.
///
/// # Safety
/// `r` must be alive, and have another count than the machinery's.
unsafe fn end_asking(r: *mut ffi::ngx_http_request_t) {
    // SAFETY: by contract; nginx clears the cleanup's place once it has ended.
    unsafe {
        let u = (*r).upstream;
        if u.is_null() || (*u).cleanup.is_null() {
            return;
        }
        if let Some(cleanup) = *(*u).cleanup {
            cleanup(r.cast());
        }
    }
}

/// Pool cleanup.
unsafe extern "C" fn drop_call<T>(data: *mut c_void) {
    guarded("pool cleanup", (), || {
        // SAFETY: made by `ask`; nginx runs a cleanup once.
        let mut call = unsafe { Box::from_raw(data.cast::<Call<T>>()) };
        if call.begin.posted() != 0 {
            // SAFETY: posted by `filter_init`, and not run yet.
            unsafe { ffi::ngx_delete_posted_event(&mut call.begin) };
        }
    });
}

/// The call behind a request of `ask`.
///
/// # Safety
/// `r` must be alive, and its machinery started by `ask::<T>`. The call is borrowed for one callback.
unsafe fn call_of<'c, T>(r: *mut ffi::ngx_http_request_t) -> &'c mut Call<T> {
    // SAFETY: by contract.
    unsafe { &mut *(*(*r).upstream).input_filter_ctx.cast::<Call<T>>() }
}

/// `create_request`: the bytes that every peer is sent. A balancer may have them made anew for the
/// next (`balancer.recreate_request` of ngx_lua).
unsafe extern "C" fn request_made<T: Asks>(r: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    // SAFETY: nginx calls this with the request of `ask`; buffer and chain are of its pool.
    unsafe {
        let request = &call_of::<T>(r).request;
        let buf = ffi::ngx_create_temp_buf((*r).pool, request.len());
        let link = ffi::ngx_alloc_chain_link((*r).pool);
        if buf.is_null() || link.is_null() {
            return ffi::NGX_ERROR as _;
        }
        ptr::copy_nonoverlapping(request.as_ptr(), (*buf).last, request.len());
        (*buf).last = (*buf).last.add(request.len());
        (*buf).set_flush(1);
        (*link).buf = buf;
        (*link).next = ptr::null_mut();
        (*(*r).upstream).request_bufs = link;
    }
    ffi::NGX_OK as _
}

/// `reinit_request`: another peer is asked, or the same again.
unsafe extern "C" fn asked_anew<T: Asks>(r: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    // SAFETY: as above.
    unsafe { call_of::<T>(r).body = None };
    ffi::NGX_OK as _
}

unsafe extern "C" fn aborted(_: *mut ffi::ngx_http_request_t) {}

unsafe extern "C" fn finalized(_: *mut ffi::ngx_http_request_t, _: ffi::ngx_int_t) {}

/// `process_header`: what has come of the answer so far.
unsafe extern "C" fn answered<T: Asks>(r: *mut ffi::ngx_http_request_t) -> ffi::ngx_int_t {
    guarded("an upstream's answer", ffi::NGX_ERROR as _, || {
        // SAFETY: nginx calls this with the request of `ask`, and what it has read in its buffer.
        unsafe {
            let u = &mut *(*r).upstream;
            let len = u.buffer.last as usize - u.buffer.pos as usize;
            let bytes = ffi::slice(u.buffer.pos.cast_const(), len);
            let (head, end) = match ResponseHead::read(bytes) {
                Ok(Some(found)) => found,
                Ok(None) => return ffi::NGX_AGAIN as _,
                Err(_) => return invalid(r, "no HTTP response"),
            };
            // 0.9 has no head, and 1.0 no upgrades, but refusals.
            if head.status == 101 {
                let Some(request) = Request::from_ptr(r) else { return ffi::NGX_ERROR as _ };
                let text = &bytes[..end - b"\r\n\r\n".len()];
                let start = text.windows(4).rposition(|four| four == b"\r\n\r\n");
                let text = &text[start.map_or(0, |at| at + 4)..];
                if let Err(why) = call_of::<T>(r).asks.granted(request, text) {
                    return invalid(r, &why);
                }
            }
            if let Err(code) = note_head(r, &head) {
                return code;
            }
            u.buffer.pos = u.buffer.pos.add(end);
        }
        ffi::NGX_OK as _
    })
}

/// Says in the log, which names the upstream, why its answer is none.
///
/// # Safety
/// `r` must be alive.
unsafe fn invalid(r: *mut ffi::ngx_http_request_t, why: &str) -> ffi::ngx_int_t {
    // SAFETY: by contract.
    let log = unsafe { (*(*r).connection).log };
    let why = escaped(why.as_bytes());
    let why = String::from_utf8_lossy(&why);
    ngx_log_error!(ffi::NGX_LOG_ERR, log, "websocket upstream sent a bad answer: {}", why);
    ffi::NGX_HTTP_UPSTREAM_INVALID_HEADER as _
}

/// What nginx is answered where there is no memory.
const NO_MEMORY: ffi::ngx_int_t = ffi::NGX_ERROR as _;

/// Tells nginx of status and headers, or what it is to be answered.
///
/// # Safety
/// `r` must be a request of `ask`.
unsafe fn note_head(
    r: *mut ffi::ngx_http_request_t,
    head: &ResponseHead<'_>,
) -> Result<(), ffi::ngx_int_t> {
    // SAFETY: by contract; the status line is of the request's pool.
    unsafe {
        let u = &mut *(*r).upstream;
        u.headers_in.status_n = head.status.into();
        if !u.state.is_null() && (*u.state).status == 0 {
            (*u.state).status = head.status.into();
        }
        let line = [format!("{:03} ", head.status).as_bytes(), head.reason].concat();
        let line = kept((*r).pool, &line).ok_or(NO_MEMORY)?;
        u.headers_in.status_line = line;
        for &(name, value) in &head.headers {
            let ours = head.status == 101 && is_ours(name);
            if !ours {
                note_header(r, name, value)?;
            }
        }
        if u.headers_in.chunked() != 0 {
            u.headers_in.content_length_n = -1;
        }
    }
    Ok(())
}

/// Headers of a 101 that are one hop's, or about a body.
fn is_ours(name: &[u8]) -> bool {
    const OURS: [&[u8]; 6] = [
        b"upgrade",
        b"connection",
        b"keep-alive",
        b"content-length",
        b"content-type",
        b"transfer-encoding",
    ];
    OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
        || name.get(..14).is_some_and(|name| name.eq_ignore_ascii_case(b"sec-websocket-"))
}

/// Adds one header, which nginx may know, and refuse: as ngx_http_proxy_process_header does, whose answer
/// is nginx's own then (of a second Content-Length, from 1.23 on, that the head is invalid).
///
/// # Safety
/// `r` must be a request of `ask`.
unsafe fn note_header(
    r: *mut ffi::ngx_http_request_t,
    name: &[u8],
    value: &[u8],
) -> Result<(), ffi::ngx_int_t> {
    // SAFETY: by contract; nginx has made the list before it read, and its hash of known headers when
    // it started. All of an element is set, because newer versions chain those of one name.
    unsafe {
        let u = &mut *(*r).upstream;
        let (key, value) = (kept((*r).pool, name), kept((*r).pool, &unfolded(value)));
        let lowcase = kept((*r).pool, &name.to_ascii_lowercase());
        let (Some(key), Some(value), Some(lowcase)) = (key, value, lowcase) else {
            return Err(NO_MEMORY);
        };
        // Last: what is in the list is read, whatever becomes of the answer.
        let header = ffi::ngx_list_push(&mut u.headers_in.headers).cast::<ffi::ngx_table_elt_t>();
        if header.is_null() {
            return Err(NO_MEMORY);
        }
        ptr::write_bytes(header, 0, 1);
        (*header).hash = ffi::ngx_hash_key(lowcase.data, lowcase.len);
        (*header).key = key;
        (*header).value = value;
        (*header).lowcase_key = lowcase.data;
        let main = upstream_main((*r).main_conf);
        let hash = ptr::addr_of_mut!((*main).headers_in_hash);
        let known = ffi::ngx_hash_find(hash, (*header).hash, lowcase.data, lowcase.len)
            .cast::<ffi::ngx_http_upstream_header_t>();
        let Some((handle, offset)) = known.as_ref().and_then(|k| Some((k.handler?, k.offset)))
        else {
            return Ok(());
        };
        match handle(r, header, offset) {
            code if code == ffi::NGX_OK as ffi::ngx_int_t => Ok(()),
            code => Err(code),
        }
    }
}

/// `input_filter_init`: the header is on its way to the client.
unsafe extern "C" fn filter_init<T: Asks>(data: *mut c_void) -> ffi::ngx_int_t {
    // SAFETY: nginx passes the call of `ask`.
    unsafe {
        let call = &mut *data.cast::<Call<T>>();
        let r = call.r;
        let u = &mut *(*r).upstream;
        if u.headers_in.status_n == 101 {
            let len = u.buffer.last as usize - u.buffer.pos as usize;
            call.first = ffi::slice(u.buffer.pos.cast_const(), len).to_vec();
            // No room, so that nginx reads no more of what is ours.
            u.buffer.start = u.buffer.end;
            (u.buffer.pos, u.buffer.last) = (u.buffer.end, u.buffer.end);
            u.length = -1;
            // Two have the request from here on: the machinery, whose cleanup nginx may run while it
            // ends the request, and whoever began with the 101.
            let main = (*r).main;
            ffi::HTTP_REQUEST_COUNT.set(main, ffi::HTTP_REQUEST_COUNT.get(main) + 1);
            ffi::ngx_post_event(&mut call.begin, ptr::addr_of_mut!(ffi::ngx_posted_events));
            return ffi::NGX_OK as _;
        }
        u.length = match u.headers_in.status_n {
            204 | 304 => 0,
            _ if u.headers_in.chunked() != 0 => {
                call.body = Some(Chunked::default());
                1
            }
            _ => u.headers_in.content_length_n,
        };
    }
    ffi::NGX_OK as _
}

/// `input_filter`: a part of a refusal's body, which nginx has read to the end of its buffer's bytes.
unsafe extern "C" fn filter<T: Asks>(data: *mut c_void, bytes: isize) -> ffi::ngx_int_t {
    guarded("an upstream's body", ffi::NGX_ERROR as _, || {
        // SAFETY: nginx passes the call of `ask`, and has read `bytes` bytes behind `last`.
        unsafe {
            let call = &mut *data.cast::<Call<T>>();
            let r = call.r;
            let Some(body) = &mut call.body else {
                return ffi::ngx_http_upstream_non_buffered_filter(r.cast(), bytes);
            };
            let u = &mut *(*r).upstream;
            let came = std::slice::from_raw_parts_mut(u.buffer.last, bytes as usize);
            let Ok(n) = body.decode(came) else {
                invalid(r, "a body in bad chunks");
                return ffi::NGX_ERROR as _;
            };
            // Chunks say where the body ends; nginx's filter is not to count.
            u.length = -1;
            let rc = match n {
                0 => ffi::NGX_OK as isize,
                n => ffi::ngx_http_upstream_non_buffered_filter(r.cast(), n as isize),
            };
            u.length = if body.is_done() { 0 } else { 1 };
            rc
        }
    })
}

/// nginx is through with the header of a 101, which may have to wait for the client.
unsafe extern "C" fn sent<T: Asks>(ev: *mut ffi::ngx_event_t) {
    // SAFETY: the event's data is the call, which lives as long as its request, and that has the count
    // of `filter_init`. c stays readable after its request, as nginx itself relies on.
    unsafe {
        let r = (*(*ev).data.cast::<Call<T>>()).r;
        let c = (*r).connection;
        let rc = guarded(Begin::<T>::WHAT, ffi::NGX_ERROR as isize, || {
            let Some(request) = Request::from_ptr(r) else { return ffi::NGX_ERROR as isize };
            if has_left(request) {
                Begin::<T>::go_on(request)
            } else {
                once_sent::<Begin<T>>(request)
            }
        });
        ffi::ngx_http_finalize_request(r, rc);
        ffi::ngx_http_run_posted_requests(c);
    }
}

/// What comes after the 101.
struct Begin<T>(T);

impl<T: Asks> GoOn for Begin<T> {
    const WHAT: &'static str = "websocket_proxy";

    fn go_on(r: Request) -> isize {
        // SAFETY: only requests of `ask::<T>` come here.
        let call = unsafe { call_of::<T>(r.as_ptr()) };
        call.request = Vec::new();
        let rc = guarded(Self::WHAT, ffi::NGX_HTTP_INTERNAL_SERVER_ERROR as isize, || {
            call.asks.begin(r, &mem::take(&mut call.first))
        });
        if rc != ffi::NGX_DONE as isize {
            // SAFETY: alive, and the count of `filter_init` is there.
            unsafe { end_asking(r.as_ptr()) };
        }
        rc
    }
}
