//! Bodies in chunks, however they are cut; bytes that are none.

use ws_proto::handshake::client::{Chunked, NotChunked};

/// What a body becomes that comes in pieces of so many bytes, and whether it is whole.
fn decode(body: &[u8], piece: usize) -> Result<(Vec<u8>, bool), NotChunked> {
    let (mut chunked, mut out) = (Chunked::default(), Vec::new());
    for bytes in body.chunks(piece) {
        let mut bytes = bytes.to_vec();
        let n = chunked.decode(&mut bytes)?;
        out.extend_from_slice(&bytes[..n]);
    }
    Ok((out, chunked.is_done()))
}

#[test]
fn chunks_become_the_body_however_they_are_cut() {
    let body = b"5\r\nhello\r\n1;name=\"value\"\r\n \r\n00A\r\nwide world\r\n0\r\nTrailer: x\r\n\r\nbehind";
    for piece in 1..=body.len() {
        assert_eq!(decode(body, piece), Ok((b"hello wide world".to_vec(), true)));
    }
    assert_eq!(decode(b"0\n\n", 1), Ok((Vec::new(), true)));
}

#[test]
fn a_body_that_is_not_whole_is_not_done() {
    for body in [&b""[..], b"5", b"5\r\nhell", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n"] {
        assert_eq!(decode(body, 2).map(|(_, done)| done), Ok(false));
    }
}

#[test]
fn what_is_no_chunk_is_refused() {
    let long = [&b"1;"[..], &[b'x'; 5000]].concat();
    let bad = [&b"\r\n"[..], b"g\r\n", b"-1\r\n", b"1\r\nxx\r\n", b"ffffffffffffffff0\r\n", &long];
    for body in bad {
        assert_eq!(decode(body, 3), Err(NotChunked), "{}", String::from_utf8_lossy(body));
    }
}
