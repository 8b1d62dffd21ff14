//! The client's opening handshake: URI, request and the answer's rules.

use ws_proto::ext::{self, deflate};
use ws_proto::handshake::client::{
    Choice, Error, Grant, Opening, ResponseHead, Uri, Wishes, MAX_RESPONSE,
};

const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";
const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[test]
fn uris() {
    for (uri, tls, host, port, target) in [
        ("ws://h", false, "h", Some("80"), "/"),
        ("wss://h", true, "h", Some("443"), "/"),
        ("WS://h", false, "h", Some("80"), "/"),
        ("wSs://H/X", true, "H", Some("443"), "/X"),
        ("ws://h:8080/a?b", false, "h", Some("8080"), "/a?b"),
        ("ws://h:80?x=1", false, "h", Some("80"), "/?x=1"),
        ("wss://h?x=1", true, "h", Some("443"), "/?x=1"),
        ("ws://h?", false, "h", Some("80"), "/?"),
        ("ws://h:8080/a?b#c", false, "h", Some("8080"), "/a?b"),
        ("ws://h#c?d", false, "h", Some("80"), "/"),
        ("ws://h/#@:", false, "h", Some("80"), "/"),
        ("ws://h:/x", false, "h", Some("80"), "/x"),
        ("ws://h:", false, "h", Some("80"), "/"),
        ("ws://h:007/x", false, "h", Some("007"), "/x"),
        ("ws://h/a:1", false, "h", Some("80"), "/a:1"),
        ("ws://h/u:p@h?u@h", false, "h", Some("80"), "/u:p@h?u@h"),
        ("ws://h/\u{e4}", false, "h", Some("80"), "/\u{e4}"),
        ("ws://[::1]:81/x", false, "[::1]", Some("81"), "/x"),
        ("ws://[::1]?x", false, "[::1]", Some("80"), "/?x"),
        ("wss://[2001:db8::1]", true, "[2001:db8::1]", Some("443"), "/"),
        ("ws://unix:/tmp/s:/x", false, "unix:/tmp/s", None, "/x"),
        ("wss://unix:/tmp/s:", true, "unix:/tmp/s", None, "/"),
        ("ws://unix:/tmp/s:?x#y", false, "unix:/tmp/s", None, "/?x"),
        ("ws://unix:/my @sock:/", false, "unix:/my @sock", None, "/"),
    ] {
        let expected =
            Uri { tls, host: host.into(), port: port.map(Into::into), target: target.into() };
        assert_eq!(Uri::parse(uri.as_bytes()), Ok(expected), "{uri}");
    }
}

#[test]
fn a_path_by_itself_may_have_anything_in_it() {
    for (path, target) in [("/x?at=unix:a", "/x?at=unix:a"), ("?unix:a:b", "/?unix:a:b"), ("", "/")]
    {
        let uri = Uri::with_target(b"wss://h:1/y?z", path.as_bytes());
        let expected = Uri { target: target.into(), ..Uri::parse(b"wss://h:1").unwrap() };
        assert_eq!(uri, Ok(expected), "{path}");
    }
    for (uri, path) in [("ws://h", "x"), ("ws://h", "/a b"), ("ws://h/unix:", "/")] {
        assert_eq!(Uri::with_target(uri.as_bytes(), path.as_bytes()), Err(Error::BadUri), "{path}");
    }
}

#[test]
fn bad_uris() {
    for uri in [
        "",
        "ws:/h",
        "ws://",
        "ws:///x",
        "ws://?x",
        "ws://:80",
        "http://h",
        " ws://h",
        "h/ws://h",
        "ws://u:p@h/",
        "ws://u@h/",
        "ws://u@",
        "ws://good\\@evil/",
        "ws://[::1]@h/",
        "ws://h:80x/y",
        "ws://h:x/y",
        "ws://h:80:81/",
        "ws://[::1]x/",
        "ws://h/ HTTP/1.1",
        "ws://h/#a b",
        "ws://h /",
        "ws://h/\r\nX: y",
        "ws://h/\t",
        "ws://h\0/",
        "ws://h/\x7f",
        "ws://unix:/tmp/\n:/",
        "ws://unix:/tmp/s:/a b",
        "ws://unix:s:x:y",
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

fn request(uri: &str, wishes: Wishes<'_>) -> Result<String, Error> {
    let bytes = Opening::new(uri.as_bytes()).unwrap().request(wishes)?;
    Ok(String::from_utf8(bytes).unwrap())
}

#[test]
fn request_bytes() {
    let wishes = Wishes { key: b"y7KXwBSpVrxtkR0O+bQt+Q==", ..Wishes::default() };
    assert_eq!(
        request("ws://127.0.0.1:1984/s?x#y", wishes.clone()).unwrap(),
        "GET /s?x HTTP/1.1\r\nUpgrade: websocket\r\nHost: 127.0.0.1:1984\r\n\
         Sec-WebSocket-Key: y7KXwBSpVrxtkR0O+bQt+Q==\r\nSec-WebSocket-Version: 13\r\n\
         Connection: Upgrade\r\n\r\n"
    );
    let wishes = Wishes {
        host: Some(b"other"),
        protocols: Some(b"xml,json"),
        origin: Some(b"http://x"),
        headers: &[b"X-A: 1", b"x-b:2"],
        choice: Choice::Offered(compressing()),
        ..wishes
    };
    assert_eq!(
        request("ws://127.0.0.1:1984?x", wishes).unwrap(),
        "GET /?x HTTP/1.1\r\nUpgrade: websocket\r\nHost: other\r\n\
         Sec-WebSocket-Key: y7KXwBSpVrxtkR0O+bQt+Q==\r\nSec-WebSocket-Protocol: xml,json\r\n\
         Sec-WebSocket-Version: 13\r\nOrigin: http://x\r\nConnection: Upgrade\r\n\
         X-A: 1\r\nx-b:2\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    );
}

#[test]
fn control_characters_are_refused() {
    let good = Wishes { key: b"k", ..Wishes::default() };
    for bad in [&b"a\rb"[..], b"a\n", b"\0"] {
        let lines = [&b"X: y"[..], bad];
        for (wishes, part) in [
            (Wishes { host: Some(bad), ..good.clone() }, "host"),
            (Wishes { key: bad, ..good.clone() }, "key"),
            (Wishes { protocols: Some(bad), ..good.clone() }, "protocols"),
            (Wishes { origin: Some(bad), ..good.clone() }, "origin"),
            (Wishes { headers: &lines, ..good.clone() }, "headers"),
        ] {
            let error = request("ws://h", wishes).unwrap_err();
            assert_eq!(error.to_string(), format!("bad {part}: control character"));
        }
    }
    assert_eq!(
        request("ws://h", Wishes { headers: &[b""], ..good }).unwrap_err().to_string(),
        "bad headers: empty line"
    );
}

fn opening(protocols: Option<&[u8]>, choice: Choice) -> Opening {
    let mut opening = Opening::new(b"ws://h").unwrap();
    opening.request(Wishes { key: KEY, protocols, choice, ..Wishes::default() }).unwrap();
    opening
}

fn check(head: &str) -> Result<(Option<String>, Option<String>), String> {
    let mut opening = opening(None, Choice::Free);
    let grant = opening.answer(head.as_bytes()).map_err(|error| error.to_string())?.unwrap();
    let text = |bytes: &Option<Vec<u8>>| bytes.clone().map(|b| String::from_utf8(b).unwrap());
    Ok((text(&grant.protocol), text(&grant.extensions)))
}

#[test]
fn good_responses() {
    let plain = Ok((None, None));
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
        Ok((Some("v1".into()), Some("a; b".into())))
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
    let error = opening(None, Choice::Free).answer(b"\xFF\xFE").unwrap_err();
    assert_eq!(error.to_bytes(), b"bad HTTP response status line: \xFF\xFE");
}

#[test]
fn a_key_counts_without_the_white_space_the_server_strips() {
    let spaced = [b" ", KEY, b"\t"].concat();
    let mut opening = Opening::new(b"ws://h").unwrap();
    opening.request(Wishes { key: &spaced, ..Wishes::default() }).unwrap();
    assert!(opening.answer(GOOD.as_bytes()).unwrap().is_some());
}

fn compressing() -> ext::Config {
    deflate::Config::default().into()
}

#[test]
fn only_what_was_offered_may_be_chosen() {
    let answer = |offered: Option<&[u8]>, config: ext::Config, lines: &str| {
        let mut opening = opening(offered, Choice::Offered(config));
        opening
            .answer(format!("{GOOD}{lines}").as_bytes())
            .map(|grant| grant.cloned().unwrap())
            .map_err(|error| error.to_string())
    };
    const FAILED: &str = "failed websocket handshake: ";
    let v1 = "\r\nSec-WebSocket-Protocol: v1";
    assert_eq!(
        answer(Some(b"v2,v1"), ext::Config::default(), v1).unwrap().protocol,
        Some(b"v1".to_vec())
    );
    assert_eq!(answer(Some(b"v1"), ext::Config::default(), "").unwrap(), Grant::default());
    for offered in [None, Some(&b"v2"[..]), Some(b"v11")] {
        assert_eq!(
            answer(offered, ext::Config::default(), v1).unwrap_err(),
            format!("{FAILED}bad \"sec-websocket-protocol\" response header: v1")
        );
    }
    let deflate = "\r\nSec-WebSocket-Extensions: permessage-deflate";
    assert!(answer(None, compressing(), deflate).unwrap().extension.is_some());
    assert!(answer(None, compressing(), "").unwrap().extension.is_none());
    assert_eq!(
        answer(None, ext::Config::default(), deflate).unwrap_err(),
        format!("{FAILED}bad \"sec-websocket-extensions\" response header: permessage-deflate")
    );
    assert_eq!(
        answer(None, compressing(), "\r\nSec-WebSocket-Extensions: foo"),
        Err(format!("{FAILED}extension was not offered"))
    );
}

const INTERIM: &str = "HTTP/1.1 103 Early Hints\r\nLink: </x>";

#[test]
fn interim_responses_are_passed_over() {
    let mut opening = opening(None, Choice::Free);
    for head in ["HTTP/1.1 100 Continue", INTERIM] {
        assert_eq!(opening.answer(head.as_bytes()), Ok(None));
        assert_eq!(opening.grant(), None);
    }
    assert!(opening.answer(GOOD.as_bytes()).unwrap().is_some());
    assert!(opening.grant().is_some());
}

#[test]
fn responses_are_bounded_together() {
    let mut opening = opening(None, Choice::Free);
    let long = format!("{INTERIM}{}", "x".repeat(MAX_RESPONSE / 2 - INTERIM.len()));
    assert_eq!(opening.answer(long.as_bytes()), Ok(None));
    assert_eq!(opening.answer(long.as_bytes()), Ok(None));
    assert_eq!(opening.answer(GOOD.as_bytes()), Err(Error::TooLarge));
}

#[test]
fn an_answer_to_nothing_grants_nothing() {
    let mut opening = Opening::new(b"ws://h").unwrap();
    assert_eq!(opening.answer(GOOD.as_bytes()), Err(Error::NotAsked));
}

#[test]
fn heads_are_found_in_what_came() {
    let status = |bytes: &str| {
        ResponseHead::read(bytes.as_bytes())
            .map(|found| found.map(|(head, len)| (head.status, len)))
            .map_err(|error| error.to_string())
    };
    let (interim, good) = (format!("{INTERIM}\r\n\r\n"), format!("{GOOD}\r\n\r\n"));
    assert_eq!(status(&format!("{good}rest")), Ok(Some((101, good.len()))));
    let both = format!("{interim}{interim}{good}");
    assert_eq!(status(&both), Ok(Some((101, both.len()))));
    for end in 0..both.len() {
        assert_eq!(status(&both[..end]), Ok(None), "{end}");
    }
    let error = status("HTTP/1.1 x\r\n\r\n").unwrap_err();
    assert_eq!(error, "bad HTTP response status line: HTTP/1.1 x\r\n\r\n");
    for endless in [GOOD.repeat(MAX_RESPONSE / GOOD.len() + 1), interim.repeat(2000)] {
        assert_eq!(status(&endless), Err("response header too large".into()));
    }
}
