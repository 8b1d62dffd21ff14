//! The client's URI, request and response rules.

use ws_proto::handshake::client::{Error, Request, Response, Uri};

const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";
const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[test]
fn uris() {
    for (uri, tls, host, port, path) in [
        ("ws://h", false, "h", Some("80"), "/"),
        ("wss://h", true, "h", Some("443"), "/"),
        ("ws://h:8080/a?b#c", false, "h", Some("8080"), "/a?b#c"),
        ("ws://h?x=1", false, "h?x=1", Some("80"), "/"),
        ("ws://h:80?x=1", false, "h", Some("80"), "?x=1"),
        ("ws://u:p@h/", false, "u", Some("80"), ":p@h/"),
        ("ws://h:/x", false, "h", Some("80"), ":/x"),
        ("ws://h:007/x", false, "h", Some("007"), "/x"),
        ("ws://h:80x/y", false, "h", Some("80"), "x/y"),
        ("ws://h/a:1", false, "h", Some("80"), "/a:1"),
        ("ws://[::1]:81/x", false, "[::1]", Some("81"), "/x"),
        ("wss://[2001:db8::1]", true, "[2001:db8::1]", Some("443"), "/"),
        ("ws://unix:/tmp/s:/x", false, "unix:/tmp/s", None, "/x"),
        ("wss://unix:/tmp/s:", true, "unix:/tmp/s", None, "/"),
        ("ws://unix:s:x:y", false, "unix:s", None, "x:y"),
    ] {
        let expected = Uri {
            tls,
            host: host.as_bytes(),
            port: port.map(str::as_bytes),
            path: path.as_bytes(),
        };
        assert_eq!(Uri::parse(uri.as_bytes()), Ok(expected), "{uri}");
    }
}

#[test]
fn bad_uris() {
    for uri in [
        "",
        "ws:/h",
        "ws://",
        "ws:///x",
        "ws://:80",
        "WS://h",
        "http://h",
        " ws://h",
        "ws://h/?q=unix:1",
        "ws://unix:/tmp/s",
        "ws://unix::/x",
        "ws://h/unix:a:b",
        "ws://[::1",
        "ws://[]",
        "ws://[h]:80/",
        "ws://[1.2.3.4]/",
    ] {
        let error = Uri::parse(uri.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "bad websocket uri", "{uri}");
    }
}

#[test]
fn host_headers() {
    for (uri, host) in [
        ("ws://h", "h:80"),
        ("wss://h/x", "h:443"),
        ("ws://h:8080", "h:8080"),
        ("ws://[::1]", "[::1]:80"),
        ("ws://unix:/tmp/s:/x", "unix_sock"),
    ] {
        assert_eq!(Uri::parse(uri.as_bytes()).unwrap().host_header(), host.as_bytes());
    }
}

#[test]
fn request_bytes() {
    let request = Request {
        path: b"/s?x#y",
        host: b"127.0.0.1:1984",
        key: b"y7KXwBSpVrxtkR0O+bQt+Q==",
        ..Request::default()
    };
    assert_eq!(
        request.encode().unwrap(),
        b"GET /s?x#y HTTP/1.1\r\nUpgrade: websocket\r\nHost: 127.0.0.1:1984\r\n\
          Sec-WebSocket-Key: y7KXwBSpVrxtkR0O+bQt+Q==\r\nSec-WebSocket-Version: 13\r\n\
          Connection: Upgrade\r\n\r\n"
    );
    let request = Request {
        protocols: Some(b"xml,json"),
        origin: Some(b"http://x"),
        headers: &[b"X-A: 1", b"x-b:2"],
        ..request
    };
    assert_eq!(
        request.encode().unwrap(),
        b"GET /s?x#y HTTP/1.1\r\nUpgrade: websocket\r\nHost: 127.0.0.1:1984\r\n\
          Sec-WebSocket-Key: y7KXwBSpVrxtkR0O+bQt+Q==\r\nSec-WebSocket-Protocol: xml,json\r\n\
          Sec-WebSocket-Version: 13\r\nOrigin: http://x\r\nConnection: Upgrade\r\n\
          X-A: 1\r\nx-b:2\r\n\r\n"
    );
}

#[test]
fn control_characters_are_refused() {
    let good = Request { path: b"/", host: b"h", key: b"k", ..Request::default() };
    for bad in [&b"a\rb"[..], b"a\n", b"\0"] {
        let lines = [&b"X: y"[..], bad];
        for (request, part) in [
            (Request { path: bad, ..good }, "path"),
            (Request { host: bad, ..good }, "host"),
            (Request { key: bad, ..good }, "key"),
            (Request { protocols: Some(bad), ..good }, "protocols"),
            (Request { origin: Some(bad), ..good }, "origin"),
            (Request { headers: &lines, ..good }, "headers"),
        ] {
            let error = request.encode().unwrap_err();
            assert_eq!(error.to_string(), format!("bad {part}: control character"));
        }
    }
    assert_eq!(
        Request { headers: &[b""], ..good }.encode().unwrap_err().to_string(),
        "bad headers: empty line"
    );
}

fn check(head: &str) -> Result<Response, String> {
    Response::check(head.as_bytes(), KEY).map_err(|error| error.to_string())
}

#[test]
fn good_responses() {
    let plain = Ok(Response { protocol: None, extensions: vec![] });
    assert_eq!(check(GOOD), plain);
    assert_eq!(check(&format!(" \r\n{GOOD}")), plain);
    assert_eq!(check(&GOOD.replace("101 Switching Protocols", "101")), plain);
    assert_eq!(check(&GOOD.replace("HTTP/1.1 101", "HTTP/1.1  101")), plain);
    assert_eq!(check(&GOOD.replace(": websocket", ":\t WebSocket ")), plain);
    assert_eq!(check(&GOOD.replace("Upgrade\r\nSec", "close, upgrade\r\nSec")), plain);
    assert_eq!(check(&format!("{GOOD}\r\nX-Odd : 1\r\nno colon\r\nX-Y: z")), plain);
    let many = "X-H: v\r\n".repeat(500);
    assert_eq!(check(&GOOD.replacen("Upgrade:", &format!("{many}Upgrade:"), 1)), plain);
    assert_eq!(
        check(&format!("{GOOD}\r\nSec-WebSocket-Protocol: v1\r\nSEC-WEBSOCKET-EXTENSIONS: a; b")),
        Ok(Response { protocol: Some(b"v1".to_vec()), extensions: vec![b"a; b".to_vec()] })
    );
}

#[test]
fn bad_responses() {
    const FAILED: &str = "failed websocket handshake: ";
    for (head, text) in [
        ("HTTP/1.1 404 Not Found\r\nServer: x".to_string(), "unexpected response status: 404"),
        ("HTTP/1.1 200 OK".to_string(), "unexpected response status: 200"),
        (GOOD.replace("Upgrade: websocket\r\n", ""), r#"bad "upgrade" response header: nil"#),
        (GOOD.replace(": websocket", ": h2c"), r#"bad "upgrade" response header: h2c"#),
        (GOOD.replace("Connection: Upgrade\r\n", ""), r#"bad "connection" response header: nil"#),
        (
            GOOD.replace("Connection: Upgrade", "Connection: xupgrade"),
            r#"bad "connection" response header: xupgrade"#,
        ),
        (
            GOOD.replace("Sec-WebSocket-Accept", "X"),
            r#"bad "sec-websocket-accept" response header: nil"#,
        ),
        (
            GOOD.replace("s3pP", "S3pP"),
            r#"bad "sec-websocket-accept" response header: S3pPLMBiTxaQ9kYGzzhZRbK+xOo="#,
        ),
    ] {
        assert_eq!(check(&head), Err(format!("{FAILED}{text}")), "{head}");
    }
    for head in ["", "garbage\r\nX: y", "HTTP/1.0 101 x", "HTTP/1.1 abc", "HTTP/1.1 ", "HTTP/2 101"]
    {
        assert_eq!(check(head), Err(format!("bad HTTP response status line: {head}")));
    }
}

#[test]
fn the_peers_bytes_are_kept() {
    let error = Response::check(b"\xFF\xFE", KEY).unwrap_err();
    assert_eq!(error.to_bytes(), b"bad HTTP response status line: \xFF\xFE");
}

#[test]
fn a_key_counts_without_the_white_space_the_server_strips() {
    let spaced = [b" ", KEY, b"\t"].concat();
    assert!(Response::check(GOOD.as_bytes(), &spaced).is_ok());
}

#[test]
fn only_what_was_offered_may_be_chosen() {
    let chosen = check(&format!("{GOOD}\r\nSec-WebSocket-Protocol: v1")).unwrap();
    assert_eq!(chosen.check_protocol(&[b"v2", b"v1"]), Ok(()));
    assert_eq!(
        chosen.check_protocol(&[b"v2"]).unwrap_err().to_string(),
        "failed websocket handshake: bad \"sec-websocket-protocol\" response header: v1"
    );
    let extended = check(&format!("{GOOD}\r\nSec-WebSocket-Extensions: foo")).unwrap();
    assert_eq!(
        extended.check_unextended(),
        Err(Error::Header("sec-websocket-extensions", Some(b"foo".to_vec())))
    );
    assert_eq!(check(GOOD).unwrap().check_protocol(&[b"v1"]), Ok(()));
    assert_eq!(check(GOOD).unwrap().check_unextended(), Ok(()));
}
