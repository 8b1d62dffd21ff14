//! What a connection says of the frame it refused.

use ws_proto::{Conn, Error, Masking, Settings, Style};

#[test]
fn a_connection_names_the_frame_it_refused() {
    let refused = |bytes: &[u8]| {
        let mut conn = Conn::new(Settings {
            style: Style::Frames,
            masking: Masking::Optional,
            max_frame: 1000,
            max_message: 1000,
            max_fragments: 1,
        });
        let mut copy = bytes.to_vec();
        let err = conn.feed(&mut &mut copy[..]).expect_err("refused");
        let (head, len) = conn.refused();
        (err, head.opcode, head.rsv, len)
    };
    assert_eq!(refused(b"\x83\x00"), (Error::ReservedData, 3, 0, 0));
    assert_eq!(refused(b"\xc1\x00"), (Error::BadRsv, 1, 0x40, 0));
    assert_eq!(refused(b"\x89\x7e\x00\x80"), (Error::ControlTooLong, 9, 0, 128));
    assert_eq!(refused(b"\x82\x7e\x03\xe9"), (Error::FrameTooLarge, 2, 0, 1001));
}
