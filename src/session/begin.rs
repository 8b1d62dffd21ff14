//! How a session begins: made for a request, which it is bound to, and given the connection once the
//! 101 response has left.

use std::rc::Rc;

use ws_conn::{Config, Role, Style};
use ws_proto::Masking;

use super::driver::Driver;
use super::options::Options;
use super::random;
use super::server::{lua_conf, Session, State};
use super::waiting::Waiting;
use super::worker::Worker;
use crate::ngx::pooled::Pooled;
use crate::ngx::process;
use crate::ngx::request::Request;
use crate::ngx::takeover;
use crate::ngx::transport::Transport;

impl Session {
    /// A session for `r`, which it is bound to; messages for it wait until it begins. None: no
    /// memory.
    pub fn prepare(r: Request, options: Options) -> Option<Rc<Session>> {
        let conf = lua_conf();
        let config = Config {
            role: Role::Server,
            style: options.style,
            masking: Masking::Required,
            max_frame: options.max_frame,
            max_message: options.max_message,
            mark: options.high_water,
            heartbeat: options.heartbeat,
            rate: options.rate,
            lifetime: options.lifetime.map(|(time, over)| {
                time.saturating_add(u64::from_le_bytes(random::bytes()) % over.saturating_add(1))
            }),
            extension: options.extension,
            late: false,
            answer: None,
            words: None,
        };
        let waiting = Waiting::new(
            options.recv_timeout.unwrap_or_else(|| conf.read_timeout_ms(r)),
            options.send_timeout.unwrap_or_else(|| conf.send_timeout_ms(r)),
        );
        let io = State {
            driver: Driver::new(&config),
            slow: options.slow,
            shutdown: options.shutdown,
            goodbye: None,
            log_errors: conf.log_errors(r),
            alone: None,
            partner: None,
            handler_close: options.handler_close,
            detach: options.detach,
            stays: false,
        };
        let session = Rc::new(Session::new(waiting, Pooled::new(r, io)));
        session.link.check_abort(conf.checks_client_abort(r));
        takeover::bind(r, session.clone()).then_some(session)
    }

    /// Takes the connection of `r` over for the session that was prepared for it. The 101 response
    /// must have left.
    pub fn begin(self: &Rc<Session>, r: Request) {
        let first = takeover::take(r, self);
        self.note_begin();
        let mut io = self.io.borrow_mut();
        let io = &mut *io;
        io.driver.begin();
        let conn = &mut io.driver.conn;
        conn.preread(&Worker, &first);
        if let Some(ms) = conn.first_timeout(&Worker, u32::from_le_bytes(random::bytes())) {
            self.link.set_timer(ms, false);
        }
        if io.shutdown.is_some() || io.alone.is_some() {
            self.link.want_quit_notice();
        }
        if io.detach && io.alone.is_some() {
            self.link.want_parting();
        }
        // Too late for nginx's notice.
        if process::is_quitting() {
            self.quit(io);
        }
        if io.driver.conn.buffered() > 0 {
            self.link.set_pending(true);
        } else {
            self.await_return(io);
        }
        // A connection that nobody reads from yet must answer pings all the same.
        if io.driver.conn.style() == Style::Messages || io.driver.conn.buffered() > 0 {
            self.link.post_flush();
        }
    }
}
