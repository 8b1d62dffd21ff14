//! Frames read in exact pieces: what is asked for, what is kept, what is refused.

mod common;

use common::{masked, plain, Wire, World};
use ws_conn::{FrameReader, FrameRules, IoError, Piece, RecvError};
use ws_proto::{opcode, Error, Masking, Stage};

const ANY: FrameRules = FrameRules { masking: Masking::Optional, max: 1 << 20 };

/// Reads one frame that is all there, in the pieces asked for. Returns those.
fn read(bytes: &[u8]) -> (Vec<usize>, u8, bool, Vec<u8>) {
    let (world, mut reader, mut at, mut asked) =
        (World::default(), FrameReader::default(), 0, vec![]);
    loop {
        let n = reader.missing();
        asked.push(n);
        let piece = &bytes[at..at + n];
        at += n;
        let (head, data) = match reader.push(&world, piece, ANY).unwrap() {
            Piece::More => continue,
            Piece::Frame(head, data) => (head, data),
            Piece::Itself(head) => (head, piece.to_vec()),
        };
        assert_eq!((at, reader.has_begun(), reader.missing()), (bytes.len(), false, 2));
        return (asked, head.opcode, head.fin, data);
    }
}

#[test]
fn no_byte_beyond_the_frame_is_asked_for() {
    for (payload, asked) in [(0, vec![2]), (125, vec![2, 125]), (126, vec![2, 2, 126])] {
        let data = vec![b'x'; payload];
        assert_eq!(read(&plain(true, opcode::TEXT, &data)), (asked, opcode::TEXT, true, data));
    }
    let data = vec![7; 65536];
    let asked = vec![2, 8, 65540];
    assert_eq!(read(&masked(false, opcode::BINARY, &data)), (asked, opcode::BINARY, false, data));
    assert_eq!(read(&masked(true, opcode::PING, b"")), (vec![2, 4], opcode::PING, true, vec![]));
}

#[test]
fn an_unmasked_payload_in_one_piece_is_not_copied() {
    let (world, mut reader) = (World::default(), FrameReader::default());
    assert_eq!(reader.push(&world, b"\x81\x02", ANY).unwrap(), Piece::More);
    assert!(matches!(reader.push(&world, b"hi", ANY), Ok(Piece::Itself(_))));
}

#[test]
fn every_cut_is_kept() {
    for frame in [plain(true, opcode::TEXT, &[b'a'; 300]), masked(true, opcode::BINARY, &[5; 300])]
    {
        for cut in 1..frame.len() {
            let (world, mut reader, mut at) = (World::default(), FrameReader::default(), 0);
            let got = loop {
                let end = at + reader.missing();
                if (at + 1..end).contains(&cut) {
                    reader.keep(&world, &frame[at..cut]).unwrap();
                    assert!(reader.has_begun());
                    at = cut;
                    continue;
                }
                match reader.push(&world, &frame[at..end], ANY).unwrap() {
                    Piece::More => at = end,
                    Piece::Frame(_, data) => break data,
                    Piece::Itself(_) => break frame[at..end].to_vec(),
                }
            };
            assert_eq!(got.len(), 300, "cut at {cut}");
            assert!(got.windows(2).all(|two| two[0] == two[1]));
        }
    }
}

#[test]
fn a_body_is_filled_with_what_is_there_and_no_more() {
    let (world, wire, mut reader) = (World::default(), Wire::default(), FrameReader::default());
    reader.push(&world, &[0x82, 127], ANY).unwrap();
    reader.push(&world, &70000u64.to_be_bytes(), ANY).unwrap();
    assert_eq!((reader.stage(), reader.size(), reader.missing()), (Stage::Body, 70000, 70000));
    wire.bring(&[1; 60000]);
    reader.fill(&world, &wire).unwrap();
    assert_eq!(reader.finish(ANY).unwrap(), Piece::More);
    assert_eq!(reader.missing(), 10000);
    wire.bring(&[1; 10001]);
    reader.fill(&world, &wire).unwrap();
    assert!(matches!(reader.finish(ANY), Ok(Piece::Frame(_, data)) if data == [1; 70000]));
    assert_eq!(wire.input.borrow().len(), 1, "the next frame's byte stays");
}

#[test]
fn what_is_refused_leaves_the_next_frame_readable() {
    let (world, mut reader) = (World::default(), FrameReader::default());
    let strict = FrameRules { masking: Masking::Required, max: 10 };
    let refused = [
        (vec![b"\x81\x01".as_slice()], Error::Unmasked),
        (vec![b"\xc1\x81"], Error::BadRsv),
        (vec![b"\x81\x8b"], Error::FrameTooLarge),
        (vec![b"\x89\xfe", b"\0\x7e"], Error::ControlTooLong),
        (vec![b"\x82\xff", b"\0\0\0\0\x80\0\0\0"], Error::LenTooLarge),
    ];
    for (pieces, expected) in refused {
        let (last, first) = pieces.split_last().unwrap();
        for piece in first {
            assert_eq!(reader.push(&world, piece, strict).unwrap(), Piece::More);
        }
        let got = reader.push(&world, last, strict);
        assert!(matches!(got, Err(RecvError::Protocol(err)) if err == expected), "{got:?}");
        assert!(!reader.has_begun());
    }
}

#[test]
fn a_socket_that_fails_says_so() {
    struct Broken;
    impl ws_conn::Io for Broken {
        fn read_ready(&self) -> bool {
            true
        }
        fn recv(&self, _: &mut [u8]) -> ws_conn::Recv {
            ws_conn::Recv::Failed(104)
        }
        fn recv_into(&self, _: &mut Vec<u8>, _: usize) -> ws_conn::Recv {
            ws_conn::Recv::Failed(104)
        }
        fn send(&self, _: &[&[u8]]) -> ws_conn::Sent {
            ws_conn::Sent::Bytes(0)
        }
    }
    let (world, mut reader) = (World::default(), FrameReader::default());
    reader.push(&world, b"\x82\x05", ANY).unwrap();
    assert!(matches!(reader.fill(&world, &Broken), Err(IoError::Errno(104))));
}
