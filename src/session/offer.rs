//! A frame on its way past the cosocket that carries it: made piece by piece in the worker's buffer,
//! and given to the kernel from there. What the kernel does not take goes by the cosocket.

use ws_proto::mask;

use super::worker;
use crate::ngx::cosocket::Cosocket;

/// What became of a frame.
#[derive(Debug, Default)]
pub struct Offered {
    /// Bytes the kernel took.
    pub sent: usize,
    /// Those it did not take.
    pub rest: Vec<u8>,
    /// Why not, where it was an error: errno. The cosocket's send will fail too.
    pub errno: Option<i32>,
}

/// Offers the kernel a frame: its header (with the masking key, if any) and the payload, masked on
/// the way. The socket must allow it (`may_send`).
pub fn offer_frame(
    socket: &Cosocket,
    header: &[u8],
    payload: &[u8],
    key: Option<[u8; 4]>,
) -> Offered {
    let mut done = Offered::default();
    let lent = worker::lend(|buffer| {
        let (mut filled, mut payload) = (header.len(), payload);
        buffer[..filled].copy_from_slice(header);
        loop {
            // A whole number of keys, so that the next piece begins with the key's first byte.
            let room = (buffer.len() - filled) & !3;
            let (piece, later) = payload.split_at(payload.len().min(room));
            write(key, piece, &mut buffer[filled..filled + piece.len()]);
            let part = &buffer[..filled + piece.len()];
            let taken = socket.offer(part).unwrap_or_else(|errno| {
                done.errno = Some(errno);
                0
            });
            done.sent += taken;
            if taken < part.len() {
                done.rest.reserve_exact(part.len() - taken + later.len());
                done.rest.extend_from_slice(&part[taken..]);
                match key {
                    Some(key) => mask::extend(key, later, &mut done.rest),
                    None => done.rest.extend_from_slice(later),
                }
                return;
            }
            if later.is_empty() {
                return;
            }
            (filled, payload) = (0, later);
        }
    });
    if lent.is_err() {
        done.rest.extend_from_slice(header);
        match key {
            Some(key) => mask::extend(key, payload, &mut done.rest),
            None => done.rest.extend_from_slice(payload),
        }
    }
    done
}

fn write(key: Option<[u8; 4]>, from: &[u8], to: &mut [u8]) {
    match key {
        Some(key) => mask::copy(key, from, to),
        None => to.copy_from_slice(from),
    }
}
