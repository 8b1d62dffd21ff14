//! What a connection holds follows what came, never what a header announces.

mod common;

use common::{feed_all, frame, frames, messages};
use ws_proto::{header, opcode, Conn, Event, Payload, Settings};

/// Capacity of the buffer under way.
fn held(conn: &mut Conn) -> usize {
    conn.body_room().map_or(0, |(buf, _)| buf.capacity())
}

#[test]
fn an_announced_length_allocates_nothing() {
    let huge = 1 << 30;
    let limits = Settings { max_frame: huge, max_message: huge, ..messages() };
    for settings in [limits, Settings { max_frame: huge, ..frames() }] {
        for fin in [true, false] {
            let mut conn = Conn::new(settings);
            let mut wire = header::encode(fin, 0, opcode::BINARY, huge, None).as_ref().to_vec();
            assert_eq!(conn.feed(&mut &mut wire[..]), Ok(None));
            assert_eq!(held(&mut conn), 4096);
            let mut came = 0;
            for _ in 0..200 {
                assert_eq!(conn.feed(&mut &mut [7; 1000][..]), Ok(None));
                came += 1000;
                assert!(held(&mut conn) <= 2 * came + 4096, "{} held", held(&mut conn));
            }
        }
    }
}

#[test]
fn a_buffer_never_grows_beyond_its_frame() {
    for len in [200, 5000, 70_001] {
        let mut wire = frame(true, opcode::BINARY, &vec![1; len], Some([1, 2, 3, 4]));
        let mut conn = Conn::new(messages());
        let mut payload = None;
        for piece in wire.chunks_mut(100) {
            let mut input = piece;
            payload = conn.feed(&mut input).unwrap();
        }
        let Some(Event::Message { payload: Payload::Owned(buf), .. }) = payload else {
            panic!("{payload:?}")
        };
        assert_eq!((buf.len(), buf.capacity()), (len, len));
    }
}

#[test]
fn many_small_fragments_do_not_copy_the_message_each_time() {
    let mut conn = Conn::new(Settings { max_fragments: u32::MAX, ..messages() });
    let mut seen = Vec::new();
    feed_all(&mut conn, &mut frame(false, opcode::BINARY, b"x", None), &mut seen).unwrap();
    let mut sizes = std::collections::BTreeSet::new();
    for _ in 0..100_000 {
        // The header alone, so that the buffer can be looked at; then the byte.
        let mut wire = frame(false, opcode::CONTINUATION, b"x", None);
        let (head, body) = wire.split_at_mut(2);
        feed_all(&mut conn, head, &mut seen).unwrap();
        sizes.insert(held(&mut conn));
        feed_all(&mut conn, body, &mut seen).unwrap();
    }
    assert!(sizes.len() < 10, "{sizes:?}");
}

#[test]
fn whole_frames_and_headers_hold_no_buffer() {
    let mut conn = Conn::new(frames());
    let mut seen = Vec::new();
    let mut wire = frame(true, opcode::TEXT, &[b'x'; 3000], Some([1, 2, 3, 4]));
    feed_all(&mut conn, &mut wire, &mut seen).unwrap();
    assert_eq!(held(&mut conn), 0);
    // Between the two halves of a masking key there is no body to read yet.
    feed_all(&mut conn, &mut b"\x81\x85\x01\x02".to_vec(), &mut seen).unwrap();
    assert_eq!(held(&mut conn), 0);
}

#[test]
fn a_payload_moves_to_other_memory() {
    for settings in [messages(), frames()] {
        let mut conn = Conn::new(settings);
        assert_eq!(conn.body_awaited(), None);
        let key = Some([1, 2, 3, 4]);
        let payload: Vec<u8> = (0..9000).map(|i| i as u8).collect();
        let mut wire = frame(true, opcode::BINARY, &payload, key);
        let head = wire.len() - payload.len();
        let (first, rest) = wire.split_at_mut(head + 5000);
        assert_eq!(conn.feed(&mut &mut first[..]), Ok(None));
        assert_eq!(
            conn.body_awaited().map(|(missing, have, _)| (missing, have)),
            Some((4000, 5000))
        );

        // What lay in the memory before does not matter.
        let mut spare = Vec::with_capacity(1 << 16);
        spare.extend_from_slice(b"old");
        let start = spare.as_ptr();
        let used = conn.assemble_in(spare);
        assert_eq!(used.len(), 5000);
        assert_eq!(conn.body_awaited(), Some((4000, 5000, (1 << 16) - 5000)));
        conn.body_room().unwrap().0.extend_from_slice(rest);
        let event = conn.body_filled(4000).unwrap().unwrap();
        let (Event::Message { payload: Payload::Owned(got), .. }
        | Event::Frame { payload: Payload::Owned(got), .. }) = event
        else {
            panic!("not an assembled payload: {event:?}")
        };
        assert_eq!(got, payload);
        assert_eq!(got.as_ptr(), start);
    }
}

#[test]
#[should_panic(expected = "more bytes than the frame has")]
fn more_than_the_frame_is_misuse() {
    let mut conn = Conn::new(frames());
    assert_eq!(conn.feed(&mut b"\x82\x05a".to_vec().as_mut_slice()), Ok(None));
    conn.body_room().unwrap().0.extend_from_slice(b"bcdef");
    let _ = conn.body_filled(5);
}

#[test]
#[should_panic(expected = "no payload is awaited")]
fn filling_without_a_frame_is_misuse() {
    let _ = Conn::new(frames()).body_filled(0);
}
