//! The rules of messages, asked frame by frame: they agree with what message style decides.

use proptest::prelude::*;
use ws_proto::{opcode, Conn, Error, Event, FrameCheck, Masking, Settings, Style};

fn check() -> FrameCheck {
    FrameCheck::new(1000, 4)
}

#[test]
fn fragments_in_their_order() {
    let mut check = check();
    for _ in 0..2 {
        assert_eq!(check.data(opcode::TEXT, false, b"\xe2\x82"), Ok(()));
        assert_eq!(check.data(opcode::CONTINUATION, false, b""), Ok(()));
        assert_eq!(check.data(opcode::CONTINUATION, true, b"\xac"), Ok(()));
        assert_eq!(check.data(opcode::BINARY, true, b"\xff"), Ok(()));
    }
}

#[test]
fn every_rule() {
    assert_eq!(check().data(opcode::CONTINUATION, true, b""), Err(Error::LoneContinuation));
    let mut interleaved = check();
    interleaved.data(opcode::TEXT, false, b"").unwrap();
    assert_eq!(interleaved.data(opcode::TEXT, true, b""), Err(Error::MessageInterleaved));
    assert_eq!(check().data(opcode::TEXT, true, b"\xe2\x82"), Err(Error::InvalidUtf8));
    assert_eq!(check().data(opcode::TEXT, false, b"\xff"), Err(Error::InvalidUtf8));
    assert_eq!(check().data(opcode::BINARY, true, &[0; 1001]), Err(Error::MessageTooLarge));
    let mut many = check();
    many.data(opcode::BINARY, false, b"").unwrap();
    for _ in 0..3 {
        many.data(opcode::CONTINUATION, false, b"").unwrap();
    }
    assert_eq!(many.data(opcode::CONTINUATION, true, b""), Err(Error::TooManyFragments));
}

#[test]
fn close_frames() {
    assert_eq!(FrameCheck::close(None, b""), Ok(()));
    assert_eq!(FrameCheck::close(Some(1000), "grüße".as_bytes()), Ok(()));
    assert_eq!(FrameCheck::close(Some(1005), b""), Err(Error::CloseBadCode));
    assert_eq!(FrameCheck::close(Some(1000), b"\xff"), Err(Error::InvalidUtf8));
}

proptest! {
    /// The same frames, once through a connection in message style.
    #[test]
    fn as_message_style_decides(frames in prop::collection::vec(
        (0u8..3, any::<bool>(), prop::collection::vec(prop::sample::select(
            vec![0x61u8, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xff]), 0..4)), 0..8)) {
        let mut conn = Conn::new(Settings {
            style: Style::Messages,
            masking: Masking::Optional,
            max_frame: 1000,
            max_message: 1000,
            max_fragments: 4,
        });
        let mut check = check();
        for (op, fin, payload) in frames {
            let mut wire = vec![u8::from(fin) << 7 | op, payload.len() as u8];
            wire.extend_from_slice(&payload);
            let mut input = &mut wire[..];
            let decided = loop {
                match conn.feed(&mut input) {
                    Err(err) => break Err(err),
                    Ok(Some(Event::Message { .. })) | Ok(None) if input.is_empty() => break Ok(()),
                    Ok(_) => {}
                }
            };
            let asked = check.data(op, fin, &payload);
            prop_assert_eq!(asked, decided);
            if asked.is_err() {
                break;
            }
        }
    }
}
