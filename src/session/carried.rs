//! A connection whose bytes somebody else carries: a client's cosocket, a stream of a listener. The
//! Lua shim feeds what came and sends what this queues. What is there already it may also read, and
//! send, past a cosocket.

use ws_conn::{Config, Connection, IoError, Item, NoIo, Role, SendError, Style};

use super::driver::Driver;
use super::pulled::{Past, Pulled};
use super::worker::Worker;
use crate::ngx::cosocket::Cosocket;

/// A connection.
///
/// Owned by one Lua userdata; it knows neither the socket nor the request, so it may outlive both. A
/// server's counts as open from its making until it is over, at the latest its drop.
pub struct Carried(Driver);

impl Carried {
    /// A connection right after the opening handshake.
    pub fn new(config: &Config) -> Carried {
        let mut driver = Driver::new(config);
        driver.begin();
        Carried(driver)
    }

    /// Takes the connection out of it, for somebody who carries its bytes another way. What is left
    /// has ended.
    pub fn take_driver(&mut self) -> Driver {
        let mut left = Driver::new(&Config::client(0, 0));
        left.conn.drop_now();
        left.conn.take_news();
        std::mem::replace(&mut self.0, left)
    }

    /// What has become of it.
    pub fn conn(&self) -> &Connection {
        &self.0.conn
    }

    /// Has it do something. A line for the log, where there is one, is the caller's to write.
    fn act<R>(&mut self, call: impl FnOnce(&mut Connection) -> R) -> (R, Option<String>) {
        let result = call(&mut self.0.conn);
        let on = Pulled::default();
        self.0.react(&on, None);
        if self.0.conn.is_over() {
            self.0.uncount();
        }
        (result, on.line())
    }

    /// Takes bytes that the socket received. Returns a line for the log, if they broke
    /// a rule.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<String> {
        self.act(|conn| conn.feed(&Worker, bytes)).1
    }

    /// Reads past the cosocket what is there, until a message is whole. Only right after bytes that
    /// its `receiveany` returned were fed, less than it had been asked for: then no others wait in
    /// its buffer. The end and errors are left to the cosocket's next read.
    pub fn receive(&mut self, socket: &Cosocket) -> Option<String> {
        let (_, line) = self.act(|conn| conn.read_item(&Worker, &Past::new(socket)));
        socket.done_reading();
        line
    }

    /// The oldest message, or data frame, that has been fed.
    pub fn take(&mut self) -> Option<Item> {
        self.act(|conn| conn.take_fed(&Worker)).0
    }

    /// Runs one of the connection's sending calls.
    pub fn write(
        &mut self,
        send: impl FnOnce(&mut Connection) -> Result<usize, SendError>,
    ) -> Result<usize, SendError> {
        self.act(send).0
    }

    /// Queues a frame as it is asked for.
    pub fn send_frame(&mut self, fin: bool, op: u8, data: &[u8]) -> Result<usize, SendError> {
        let masked = self.0.role() == Role::Client;
        self.write(|conn| conn.send_frame(&Worker, &NoIo, fin, op, data, masked))
    }

    /// Queues an empty ping.
    pub fn ping(&mut self) {
        self.0.conn.ping(&Worker);
    }

    /// Queues a close frame, once; false where none can be sent any more. The peer's is awaited for
    /// `ms` milliseconds.
    pub fn close(&mut self, code: Option<u16>, reason: &[u8], ms: u64) -> bool {
        self.act(|conn| conn.close(&Worker, code, reason, ms)).0
    }

    /// Does what is due: pings, gives the peer up, unless the socket may have `unread` bytes. Returns in
    /// how many milliseconds to ask again. Where it is over, for how long whoever carries the bytes is to
    /// read on before the socket is closed.
    pub fn beat(&mut self, unread: bool) -> Option<u64> {
        self.act(|conn| conn.handle_timeout(&Worker, unread).or_else(|| conn.linger_ms(&Worker))).0
    }

    /// The socket ended or failed.
    pub fn lost(&mut self, err: IoError) {
        self.act(|conn| conn.lost(err));
    }

    /// Ends without a word.
    pub fn drop_now(&mut self) {
        self.act(Connection::drop_now);
    }

    /// Sends past the cosocket what the kernel takes; it must allow that (`may_send`). An error, as
    /// errno, is found by the cosocket's own send too.
    pub fn offer(&mut self, socket: &Cosocket) -> Option<i32> {
        let past = Past::new(socket);
        self.0.conn.flush(&Worker, &past);
        past.failed.get()
    }

    /// What is to be sent now, if anything.
    pub fn output(&mut self) -> Option<Vec<u8>> {
        self.act(|conn| conn.take_output(&Worker)).0
    }

    /// Whether nothing is half received and no message waits to be taken.
    pub fn is_between(&self) -> bool {
        !self.0.conn.has_items()
            && self.0.conn.style() == Style::Messages
            && self.0.conn.is_between()
    }
}
