//! Request heads as bytes: what is one, what may become one, what never will.

use ws_proto::handshake::head::{HeadError, RequestHead, MAX_HEAD};

const GET: &[u8] = b"GET /chat?room=1 HTTP/1.1\r\nHost: t\r\nUpgrade: h2c, WebSocket\r\n\
                     Sec-WebSocket-Protocol: a, b\r\nsec-websocket-protocol: c\r\n\r\n";

#[test]
fn a_whole_head_is_taken_apart() {
    let bytes = [GET, b"\x81\x80"].concat();
    let head = RequestHead::parse(&bytes).unwrap().unwrap();
    assert_eq!((head.method, head.target, head.http11), (&b"GET"[..], &b"/chat?room=1"[..], true));
    assert_eq!(head.len, GET.len());
    assert_eq!(head.headers[0], (&b"Host"[..], &b"t"[..]));
    let request = head.request();
    assert!(request.host && request.asks_upgrade());
    let offered: Vec<&[u8]> = request.offered_protocols().collect();
    assert_eq!(offered, [b"a", b"b", b"c"]);
}

#[test]
fn an_older_version_and_a_missing_host_are_seen() {
    let head = RequestHead::parse(b"POST / HTTP/1.0\r\n\r\n").unwrap().unwrap();
    assert!(!head.http11 && !head.request().host && !head.request().asks_upgrade());
}

#[test]
fn every_beginning_is_waited_for() {
    for end in 0..GET.len() {
        assert_eq!(RequestHead::parse(&GET[..end]), Ok(None), "{end}");
    }
}

#[test]
fn what_is_no_request_is_refused_at_once() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], // TLS
        b"SSH-2.0-OpenSSH\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00",
        b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
    ] {
        assert_eq!(
            RequestHead::parse(bytes),
            Err(HeadError::Malformed),
            "{:?}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn size_and_number_of_lines_are_limited() {
    let long = [b"GET / HTTP/1.1\r\nA: ", &vec![b'a'; 100 << 10][..]].concat();
    assert_eq!(RequestHead::parse(&long[..MAX_HEAD - 1]), Ok(None));
    assert_eq!(RequestHead::parse(&long[..MAX_HEAD]), Err(HeadError::TooLarge));
    let whole = [&long[..], b"\r\n\r\n"].concat();
    assert_eq!(RequestHead::parse(&whole), Err(HeadError::TooLarge));
    let lines = [b"GET / HTTP/1.1\r\n", "A: b\r\n".repeat(101).as_bytes(), b"\r\n"].concat();
    assert_eq!(RequestHead::parse(&lines), Err(HeadError::TooLarge));
    assert_eq!((HeadError::TooLarge.status(), HeadError::Malformed.status()), (431, 400));
}
