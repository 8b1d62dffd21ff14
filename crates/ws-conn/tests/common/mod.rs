//! A world for connections: a clock that the test moves, keys that are known, a wire that takes and
//! brings as much as the test lets it.
#![allow(dead_code)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use ws_conn::{
    Config, Connection, Counted, Host, Io, Lending, Pool, Recv, Role, Sent, Style, View,
};
use ws_proto::{header, mask, opcode, Masking};

pub struct World {
    pub now: Cell<u64>,
    pub counts: RefCell<Vec<Counted>>,
    pool: Pool,
}

impl Default for World {
    fn default() -> World {
        let lending = Lending { is_lent: || false, hold: drop };
        World { now: Cell::new(0), counts: RefCell::default(), pool: Pool::new(lending) }
    }
}

impl Host for World {
    fn now_ms(&self) -> u64 {
        self.now.get()
    }
    fn masking_key(&self) -> [u8; 4] {
        [1, 2, 3, 4]
    }
    fn count(&self, event: Counted) {
        self.counts.borrow_mut().push(event);
    }
    fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl World {
    pub fn has_counted(&self, event: Counted) -> usize {
        self.counts.borrow().iter().filter(|counted| **counted == event).count()
    }
}

pub struct Wire {
    pub input: RefCell<VecDeque<u8>>,
    pub eof: Cell<bool>,
    /// Most bytes that one read brings.
    pub piece: Cell<usize>,
    /// How many bytes the kernel still takes.
    pub room: Cell<usize>,
    pub output: RefCell<Vec<u8>>,
}

impl Default for Wire {
    fn default() -> Wire {
        Wire {
            input: RefCell::default(),
            eof: Cell::new(false),
            piece: Cell::new(usize::MAX),
            room: Cell::new(usize::MAX),
            output: RefCell::default(),
        }
    }
}

impl Wire {
    pub fn bring(&self, bytes: &[u8]) {
        self.input.borrow_mut().extend(bytes);
    }

    /// What has left, taken.
    pub fn sent(&self) -> Vec<u8> {
        self.output.take()
    }
}

impl Io for Wire {
    fn read_ready(&self) -> bool {
        self.eof.get() || !self.input.borrow().is_empty()
    }
    fn recv(&self, buf: &mut [u8]) -> Recv {
        let mut input = self.input.borrow_mut();
        let n = buf.len().min(self.piece.get()).min(input.len());
        if n == 0 {
            return if self.eof.get() { Recv::Eof } else { Recv::Again };
        }
        for (to, from) in buf.iter_mut().zip(input.drain(..n)) {
            *to = from;
        }
        Recv::Data(n)
    }
    fn recv_into(&self, buf: &mut Vec<u8>, limit: usize) -> Recv {
        let (len, room) = (buf.len(), buf.capacity() - buf.len());
        buf.resize(len + room.min(limit), 0);
        let got = self.recv(&mut buf[len..]);
        buf.truncate(len + if let Recv::Data(n) = got { n } else { 0 });
        got
    }
    fn send(&self, parts: &[&[u8]]) -> Sent {
        let mut taken = 0;
        for part in parts {
            let n = part.len().min(self.room.get() - taken);
            self.output.borrow_mut().extend_from_slice(&part[..n]);
            taken += n;
        }
        if self.room.get() != usize::MAX {
            self.room.set(self.room.get() - taken);
        }
        Sent::Bytes(taken)
    }
}

pub fn config(role: Role, style: Style) -> Config {
    Config {
        role,
        style,
        masking: if role == Role::Server { Masking::Required } else { Masking::Forbidden },
        max_frame: 1 << 20,
        max_message: 1 << 20,
        mark: 1000,
        heartbeat: None,
        rate: None,
        lifetime: None,
        extension: None,
        late: false,
        answer: None,
        words: None,
    }
}

/// A server's connection, its world and its wire.
pub fn server(style: Style) -> (World, Wire, Connection) {
    with(config(Role::Server, style))
}

pub fn with(config: Config) -> (World, Wire, Connection) {
    let world = World::default();
    let conn = Connection::new(&world, &config);
    (world, Wire::default(), conn)
}

/// A client's frame.
pub fn masked(fin: bool, op: u8, payload: &[u8]) -> Vec<u8> {
    let key = [7, 0, 9, 1];
    let mut frame = header::encode(fin, 0, op, payload.len() as u64, Some(key)).as_ref().to_vec();
    mask::extend(key, payload, &mut frame);
    frame
}

/// A server's frame.
pub fn plain(fin: bool, op: u8, payload: &[u8]) -> Vec<u8> {
    [header::encode(fin, 0, op, payload.len() as u64, None).as_ref(), payload].concat()
}

pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

pub fn text(data: &[u8]) -> Vec<u8> {
    masked(true, opcode::TEXT, data)
}

/// The bytes of a view, which nothing has been asked of the connection since.
pub fn bytes(view: &View) -> Vec<u8> {
    // SAFETY: the view's promise, kept by the tests.
    unsafe { std::slice::from_raw_parts(view.data, view.len) }.to_vec()
}

/// The next message, copied.
pub fn message(world: &World, wire: &Wire, conn: &mut Connection) -> Option<(u8, Vec<u8>)> {
    conn.poll_message(world, wire).map(|view| (view.opcode, bytes(&view)))
}
