//! Two connections that talk to each other over a wire which cuts and holds back as the data says: the
//! property tests' and the fuzz target's. What one says the other hears, in order, up to the end of
//! the conversation; nothing grows beyond its bounds; and every close comes to an end.

use super::common::{config, message, with, Wire, World};
use ws_conn::{Config, Connection, End, Role, Style};
use ws_proto::ext::{deflate, Agreed};
use ws_proto::opcode;

struct Side {
    world: World,
    wire: Wire,
    conn: Connection,
    said: Vec<(u8, Vec<u8>)>,
    heard: Vec<(u8, Vec<u8>)>,
    streaming: bool,
}

fn side(role: Role, packs: bool) -> Side {
    let agreed = deflate::Agreed {
        server_no_context_takeover: false,
        client_no_context_takeover: true,
        server_max_window_bits: 9,
        client_max_window_bits: 15,
        level: 1,
        threshold: 20,
    };
    let config = Config {
        extension: packs.then_some(Agreed::Deflate(agreed)),
        ..config(role, Style::Messages)
    };
    let (world, wire, conn) = with(config);
    Side { world, wire, conn, said: Vec::new(), heard: Vec::new(), streaming: false }
}

impl Side {
    fn say(&mut self, n: u8) {
        let text = n & 1 == 0;
        let data = vec![b'a' + n % 26; usize::from(n) * usize::from(n) / 3];
        // A sender that is told to wait does.
        let Side { world, wire, conn, .. } = self;
        if conn.has_room() && conn.send_message(world, wire, text, &data).is_ok() {
            self.said.push((if text { opcode::TEXT } else { opcode::BINARY }, data));
        }
    }

    fn stream(&mut self, n: u8) {
        let Side { world, conn, .. } = self;
        if !conn.has_room() {
            return;
        }
        if !self.streaming {
            self.streaming = conn.open_stream(false).is_ok();
            if self.streaming && conn.write_stream(world, &[n]).is_ok() {
                self.said.push((opcode::BINARY, vec![n]));
            }
        } else if conn.finish_stream(world).is_ok() {
            self.streaming = false;
        }
    }

    fn hear(&mut self) -> bool {
        let heard = message(&self.world, &self.wire, &mut self.conn);
        let any = heard.is_some();
        self.heard.extend(heard);
        any
    }

    fn turn(&mut self) {
        self.conn.handle_flush(&self.world, &self.wire);
        self.conn.take_news();
        // 1 MiB is the most that one message may have.
        assert!(self.conn.buffered() <= self.conn.mark() + 23_000);
    }
}

/// What one side's kernel has taken arrives at the other.
fn carry(from: &Side, to: &Side) -> bool {
    let bytes = from.wire.sent();
    to.wire.bring(&bytes);
    !bytes.is_empty()
}

/// Each two bytes of the data are a call and its argument.
pub fn run(data: &[u8]) {
    let Some((&flags, calls)) = data.split_first() else { return };
    let (mut client, mut server) =
        (side(Role::Client, flags & 1 != 0), side(Role::Server, flags & 1 != 0));
    let mut closed = false;
    for call in calls.chunks_exact(2) {
        let (us, peer) = match call[0] & 1 {
            0 => (&mut client, &mut server),
            _ => (&mut server, &mut client),
        };
        let n = call[1];
        match (call[0] >> 1) % 9 {
            0 | 1 => us.say(n),
            2 => us.stream(n),
            3 => drop(us.conn.send_control(&us.world, opcode::PING, &[n])),
            4 => drop(us.hear()),
            5 => us.wire.piece.set(usize::from(n).max(1)),
            6 => us.wire.room.set(if n < 200 { usize::from(n) * 10 } else { usize::MAX }),
            7 => {
                us.turn();
                carry(us, peer);
            }
            _ if n < 250 => us.turn(),
            _ => closed |= us.conn.close(&us.world, Some(1000), b"", 1000),
        }
    }
    // Then all flows, and everybody listens.
    for side in [&mut client, &mut server] {
        side.wire.room.set(usize::MAX);
        if side.streaming && side.conn.finish_stream(&side.world).is_ok() {
            side.streaming = false;
        }
    }
    loop {
        let mut moved = false;
        for _ in 0..3 {
            client.turn();
            server.turn();
            moved |= carry(&client, &server) | carry(&server, &client);
        }
        while client.hear() || server.hear() {
            moved = true;
        }
        if !moved {
            break;
        }
    }
    for (us, peer) in [(&client, &server), (&server, &client)] {
        // After a close frame of its own a side does not listen any more.
        assert!(us.heard.len() <= peer.said.len() && us.heard == peer.said[..us.heard.len()]);
        assert!(closed || us.heard == peer.said);
        assert_eq!(us.conn.is_over(), closed, "{:?}", us.conn.end());
        assert!(matches!(us.conn.end(), None | Some(End::Closed { code: 1000, .. })));
        assert!(!us.conn.has_pending(&us.wire));
    }
}
