//! The server's checks: lua-resty-websocket's, and RFC 6455 4.2.1.

use ws_proto::handshake::server::{
    check_lenient, check_strict, ClientHandshake, Policy, Refusal, Upgrade,
};
use ws_proto::handshake::{accept_key, AcceptKey};

type Header = (&'static str, &'static str);

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// RFC 6455 1.2's request, without what the HTTP server looks at itself.
const GOOD: [Header; 4] = [
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
];

/// The good headers with those of the given names replaced; no values: removed.
fn with(name: &'static str, values: &[&'static str]) -> Vec<Header> {
    let mut list: Vec<Header> = GOOD.into();
    list.retain(|header| header.0 != name);
    list.extend(values.iter().map(|value| (name, *value)));
    list
}

/// Calls `check` with a request of these headers, and owns what comes back.
fn checked(
    headers: &[Header],
    change: impl FnOnce(&mut ClientHandshake<'_>),
    check: impl FnOnce(&ClientHandshake<'_>) -> Result<(String, Option<Vec<u8>>), Refusal>,
) -> Result<(String, Option<String>), String> {
    let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    let mut request =
        ClientHandshake { method: b"GET", http11: true, host: true, headers: &headers };
    change(&mut request);
    check(&request)
        .map(|(accept, protocol)| (accept, protocol.map(|p| String::from_utf8(p).unwrap())))
        .map_err(|refusal| format!("{} {refusal}", refusal.status()))
}

fn text(accept: AcceptKey) -> String {
    String::from_utf8(accept.to_vec()).unwrap()
}

fn owned(upgrade: Upgrade<'_>) -> (String, Option<Vec<u8>>) {
    (text(upgrade.accept), upgrade.protocol.map(<[u8]>::to_vec))
}

fn lenient(headers: &[Header]) -> Result<(String, Option<String>), String> {
    checked(headers, |_| {}, |request| check_lenient(request).map(owned))
}

fn strict_with(
    headers: &[Header],
    policy: &Policy<'_>,
) -> Result<(String, Option<String>), String> {
    checked(headers, |_| {}, |request| check_strict(request, policy).map(owned))
}

fn strict(headers: &[Header]) -> Result<(String, Option<String>), String> {
    strict_with(headers, &Policy::default())
}

fn granted(protocol: Option<&str>) -> Result<(String, Option<String>), String> {
    Ok((ACCEPT.to_string(), protocol.map(str::to_string)))
}

fn refused(text: &str) -> Result<(String, Option<String>), String> {
    Err(text.to_string())
}

#[test]
fn accept_key_of_rfc_6455_1_3() {
    assert_eq!(accept_key(KEY.as_bytes()), ACCEPT.as_bytes());
    assert!(accept_key(b"").is_ascii());
}

#[test]
fn a_good_request_passes_both() {
    assert_eq!(lenient(&GOOD), granted(None));
    assert_eq!(strict(&GOOD), granted(None));
    let odd_case: Vec<Header> = vec![
        ("UPGRADE", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-key", KEY),
        ("SEC-WEBSOCKET-VERSION", "13"),
    ];
    assert_eq!(lenient(&odd_case), granted(None));
    assert_eq!(strict(&odd_case), granted(None));
}

#[test]
fn lenient_refusals() {
    for (name, values, text) in [
        ("Upgrade", &[][..], r#"400 bad "upgrade" request header: nil"#),
        ("Upgrade", &["Foo"], r#"400 bad "upgrade" request header: Foo"#),
        ("Upgrade", &[""], r#"400 bad "upgrade" request header: "#),
        ("Upgrade", &["websocket, foo"], r#"400 bad "upgrade" request header: websocket, foo"#),
        ("Upgrade", &["h2c", "websocket"], r#"400 bad "upgrade" request header: h2c"#),
        ("Connection", &[], r#"400 bad "connection" request header"#),
        ("Connection", &["keep-alive"], r#"400 bad "connection" request header"#),
        ("Connection", &["close", "upgrade"], r#"400 bad "connection" request header"#),
        ("Sec-WebSocket-Key", &[], r#"400 bad "sec-websocket-key" request header"#),
        ("Sec-WebSocket-Version", &[], r#"400 bad "sec-websocket-version" request header"#),
        ("Sec-WebSocket-Version", &["8"], r#"426 bad "sec-websocket-version" request header"#),
        ("Sec-WebSocket-Version", &["13 "], r#"426 bad "sec-websocket-version" request header"#),
        (
            "Sec-WebSocket-Version",
            &["8", "13"],
            r#"426 bad "sec-websocket-version" request header"#,
        ),
    ] {
        assert_eq!(lenient(&with(name, values)), refused(text), "{name}: {values:?}");
    }
}

#[test]
fn lenient_order_of_checks() {
    let old = |request: &mut ClientHandshake<'_>| request.http11 = false;
    let check = |request: &ClientHandshake<'_>| check_lenient(request).map(owned);
    assert_eq!(checked(&[], old, check), refused("400 bad http version"));
    // With nothing there, the headers are asked for in this order.
    let mut have: Vec<Header> = Vec::new();
    for (header, text) in GOOD.into_iter().zip([
        r#"400 bad "upgrade" request header: nil"#,
        r#"400 bad "connection" request header"#,
        r#"400 bad "sec-websocket-key" request header"#,
        r#"400 bad "sec-websocket-version" request header"#,
    ]) {
        assert_eq!(lenient(&have), refused(text));
        have.push(header);
    }
    assert_eq!(lenient(&have), granted(None));
}

#[test]
fn lenient_overlooks_much() {
    assert!(lenient(&with("Connection", &["xupgradex"])).is_ok());
    let (accept, _) = lenient(&with("Sec-WebSocket-Key", &["short"])).unwrap();
    assert_eq!(accept, text(accept_key(b"short")));
    let post = |request: &mut ClientHandshake<'_>| {
        request.method = b"POST";
        request.host = false;
    };
    let result = checked(&GOOD, post, |request| check_lenient(request).map(owned));
    assert_eq!(result, granted(None));
    let list = with("Sec-WebSocket-Protocol", &["a, b", "c"]);
    assert_eq!(lenient(&list), granted(Some("a, b")));
}

#[test]
fn a_refusal_keeps_the_clients_bytes() {
    let headers = [(&b"upgrade"[..], &b"\xFFx"[..])];
    let request = ClientHandshake { method: b"GET", http11: true, host: true, headers: &headers };
    let refusal = check_lenient(&request).unwrap_err();
    assert_eq!(refusal.to_bytes(), b"bad \"upgrade\" request header: \xFFx");
    assert_eq!(refusal.rule(), "upgrade");
}

#[test]
fn strict_refusals() {
    for (name, values, text) in [
        ("Upgrade", &[][..], r#"400 bad "upgrade" request header: nil"#),
        ("Upgrade", &["websockets"], r#"400 bad "upgrade" request header: websockets"#),
        ("Connection", &["xupgradex"], r#"400 bad "connection" request header"#),
        ("Sec-WebSocket-Key", &[], r#"400 bad "sec-websocket-key" request header"#),
        ("Sec-WebSocket-Key", &["c2hvcnQ="], r#"400 bad "sec-websocket-key" request header"#),
        (
            "Sec-WebSocket-Key",
            &["dGhlIHNhbXBsZSBub25jZQ=!"],
            r#"400 bad "sec-websocket-key" request header"#,
        ),
        // 24 characters without padding are 18 bytes.
        (
            "Sec-WebSocket-Key",
            &["dGhlIHNhbXBsZSBub25jZQAA"],
            r#"400 bad "sec-websocket-key" request header"#,
        ),
        ("Sec-WebSocket-Key", &[KEY, KEY], r#"400 bad "sec-websocket-key" request header"#),
        ("Sec-WebSocket-Version", &[], r#"400 bad "sec-websocket-version" request header"#),
        ("Sec-WebSocket-Version", &["8"], r#"426 bad "sec-websocket-version" request header"#),
        (
            "Sec-WebSocket-Version",
            &["13", "8"],
            r#"400 bad "sec-websocket-version" request header"#,
        ),
    ] {
        assert_eq!(strict(&with(name, values)), refused(text), "{name}: {values:?}");
    }
    let check =
        |request: &ClientHandshake<'_>| check_strict(request, &Policy::default()).map(owned);
    assert_eq!(
        checked(&GOOD, |request| request.method = b"POST", check),
        refused("400 bad request method")
    );
    assert_eq!(
        checked(&GOOD, |request| request.http11 = false, check),
        refused("400 bad http version")
    );
    assert_eq!(
        checked(&GOOD, |request| request.host = false, check),
        refused(r#"400 bad "host" request header"#)
    );
}

#[test]
fn strict_reads_lists_over_several_lines() {
    assert_eq!(strict(&with("Upgrade", &["h2c", "foo/1 ,\tWebSocket"])), granted(None));
    assert_eq!(strict(&with("Connection", &["keep-alive", ", upgrade,"])), granted(None));
}

#[test]
fn the_server_chooses_the_subprotocol() {
    let policy = Policy { protocols: &[b"v2", b"v1"], ..Policy::default() };
    for (offer, chosen) in [
        (&["v1, v2"][..], Some("v2")),
        (&["v1", "x"], Some("v1")),
        (&["V2"], None),
        (&["v2x, xv2"], None),
        (&[], None),
    ] {
        let headers = with("Sec-WebSocket-Protocol", offer);
        assert_eq!(strict_with(&headers, &policy), granted(chosen), "{offer:?}");
    }
    assert_eq!(strict(&with("Sec-WebSocket-Protocol", &["v1"])), granted(None));
}

#[test]
fn origins() {
    let origins: &[&[u8]] = &[b"https://example.org", b"*.example.com", b"null"];
    let policy = Policy { origins: Some(origins), ..Policy::default() };
    for (origin, good) in [
        (&["https://example.org"][..], true),
        (&["HTTPS://Example.ORG"], true),
        (&["https://example.org:8443"], false),
        (&["http://example.org"], false),
        (&["https://a.example.com"], true),
        (&["http://A.b.Example.com:8080"], true),
        (&["https://example.com"], false),
        (&["https://.example.com"], false),
        (&["https://badexample.com"], false),
        (&["https://a.example.com.evil.net"], false),
        (&["https://evil.net/.example.com"], false),
        (&["https://evil.net:.example.com"], false),
        (&["https://evil.net\\.example.com"], false),
        (&["a.example.com"], false),
        (&["https://evil.net .example.com"], false),
        (&["https://evil.net\t.example.com"], false),
        (&["https://evil.net\u{1}.example.com"], false),
        (&["https://evil.net\u{7f}.example.com"], false),
        (&["null"], true),
        (&[""], false),
        (&["https://example.org", "https://evil.net"], false),
        (&[], true),
    ] {
        let expected = if good { granted(None) } else { refused("403 origin not allowed") };
        assert_eq!(strict_with(&with("Origin", origin), &policy), expected, "{origin:?}");
    }
    let policy = Policy { require_origin: true, ..Policy::default() };
    assert_eq!(strict_with(&GOOD, &policy), refused(r#"403 no "origin" request header"#));
    assert_eq!(strict_with(&with("Origin", &["x"]), &policy), granted(None));
}

#[test]
fn extensions_that_do_not_parse() {
    let text = r#"400 bad "sec-websocket-extensions" request header"#;
    for (values, good) in [
        (&[""][..], true),
        (&["x-unknown"], true),
        (&["permessage-deflate; client_max_window_bits, x; y=\"z\""], true),
        (&["permessage-deflate;"], false),
        (&["permessage deflate"], false),
        (&["permessage-deflate; a="], false),
        (&["permessage-deflate; a=\"b"], false),
        (&["permessage-deflate", "=x"], false),
        (&["x; =y"], false),
    ] {
        let expected = if good { granted(None) } else { refused(text) };
        assert_eq!(strict(&with("Sec-WebSocket-Extensions", values)), expected, "{values:?}");
        assert_eq!(lenient(&with("Sec-WebSocket-Extensions", values)), granted(None));
    }
}
