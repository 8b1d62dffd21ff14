//! Payloads of close frames, leniently and by the letter.

use ws_proto::{close, Error};

#[test]
fn lenient_takes_what_is_there() {
    assert_eq!(close::parse(b""), Ok((None, &b""[..])));
    assert_eq!(close::parse(b"\x03"), Err(Error::CloseOneByte));
    assert_eq!(close::parse(b"\x03\xE8"), Ok((Some(1000), &b""[..])));
    assert_eq!(close::parse(b"\x03\xED\xFF\xFE"), Ok((Some(1005), &b"\xFF\xFE"[..])));
    assert_eq!(close::parse(b"\0\0x"), Ok((Some(0), &b"x"[..])));
}

#[test]
fn strict_codes() {
    let good = |code: u16| {
        (1000..=1003).contains(&code)
            || (1007..=1014).contains(&code)
            || (3000..=4999).contains(&code)
    };
    for code in 0..=u16::MAX {
        let payload = close::encode(Some(code), b"why");
        let expected = if good(code) { Ok((Some(code), "why")) } else { Err(Error::CloseBadCode) };
        assert_eq!(close::validate_strict(&payload), expected);
        assert_eq!(close::may_send(code), good(code), "{code}");
    }
}

#[test]
fn strict_reasons() {
    assert_eq!(close::validate_strict(b""), Ok((None, "")));
    assert_eq!(close::validate_strict(b"\x03"), Err(Error::CloseOneByte));
    assert_eq!(close::validate_strict("\u{3}\u{0}".as_bytes()), Err(Error::CloseBadCode));
    assert_eq!(close::validate_strict(b"\x03\xE8\xC3\xA9"), Ok((Some(1000), "é")));
    assert_eq!(close::validate_strict(b"\x03\xE8\xC3"), Err(Error::InvalidUtf8));
}

#[test]
fn encoding() {
    assert_eq!(close::encode(None, b"a reason cannot stand alone"), b"");
    assert_eq!(close::encode(Some(1001), b""), b"\x03\xE9");
    assert_eq!(close::encode(Some(0xFFFF), b"x"), b"\xFF\xFFx");
}
