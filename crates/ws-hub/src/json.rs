//! The lines that subscribers in JSON format get: a message with its topic and cursor, where they
//! stand after subscribing and at a gap, who else is there. Written by hand: a few fields in a known
//! order, and text that is UTF-8 already.

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

use crate::history::cursor::CURSOR_LEN;
use crate::NodeId;

/// A cursor as text.
pub type CursorText = [u8; CURSOR_LEN];

/// Where a subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The position from which on everything follows. None: the topic remembers nothing.
    pub cursor: Option<CursorText>,
    /// Whether what was missed follows, all of it.
    pub recovered: bool,
    /// How many messages of before follow.
    pub count: u64,
    /// Why it does not, where something was asked for or is lost.
    pub reason: Option<Reason>,
}

/// Why messages of before cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The history they were in is gone.
    Epoch,
    /// Some of them are.
    Trimmed,
    /// More than a subscriber may be sent at once.
    TooMany,
    /// The cursor cannot be read, or is another topic's.
    Cursor,
    /// The broker that keeps the history is away: the cursor stays valid.
    Unavailable,
}

impl Reason {
    /// Its name; API.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Epoch => "epoch",
            Reason::Trimmed => "trimmed",
            Reason::TooMany => "too many",
            Reason::Cursor => "cursor",
            Reason::Unavailable => "unavailable",
        }
    }
}

impl From<crate::history::Gap> for Reason {
    fn from(gap: crate::history::Gap) -> Self {
        match gap {
            crate::history::Gap::Epoch => Reason::Epoch,
            crate::history::Gap::Trimmed => Reason::Trimmed,
        }
    }
}

/// Bytes of a message's line beside topic and data: names, quotes and the cursor.
const AROUND: usize = 40 + CURSOR_LEN;

/// Appends a message. False: there is no memory for it.
pub fn message(
    out: &mut Vec<u8>,
    topic: &[u8],
    cursor: Option<&CursorText>,
    text: bool,
    data: &[u8],
) -> bool {
    if out.try_reserve(AROUND + string_len(topic) + payload_len(text, data)).is_err() {
        return false;
    }
    begin(out, topic, cursor);
    out.extend_from_slice(b",\"data\":");
    let written = payload(out, text, data);
    out.push(b'}');
    written
}

/// Appends where a subscriber stands.
pub fn state(out: &mut Vec<u8>, topic: &[u8], state: &State) {
    begin(out, topic, state.cursor.as_ref());
    let resumed = if state.recovered { "true" } else { "false" };
    out.extend_from_slice(format!(",\"resumed\":{resumed},\"count\":{}", state.count).as_bytes());
    if let Some(reason) = state.reason {
        out.extend_from_slice(b",\"reason\":");
        string(out, reason.name().as_bytes());
    }
    out.push(b'}');
}

/// A member of a topic, as others are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its number, which is no secret.
    pub number: u64,
    /// Its machine.
    pub node: NodeId,
    /// What it says of itself; empty for nothing.
    pub info: &'a str,
}

/// Who subscribes a topic.
#[derive(Clone, Copy, Debug)]
pub enum Members<'a> {
    /// Each of them.
    All(&'a [Member<'a>]),
    /// So many.
    Count(u64),
}

/// Bytes of a list beside its topic and members: the longest names, a number, quotes and brackets.
const AROUND_LISTS: usize = 60;

/// Appends who subscribes a topic. False: there is no memory for it.
pub fn members(out: &mut Vec<u8>, topic: &[u8], members: Members<'_>) -> bool {
    let len = match members {
        Members::All(members) => list_len(members),
        Members::Count(_) => 0,
    };
    if out.try_reserve(AROUND_LISTS + string_len(topic) + len).is_err() {
        return false;
    }
    begin(out, topic, None);
    out.extend_from_slice(b",\"members\":");
    match members {
        Members::All(members) => list(out, members),
        Members::Count(n) => out.extend_from_slice(n.to_string().as_bytes()),
    }
    out.push(b'}');
    true
}

/// Appends who has come and gone. False: there is no memory for it.
pub fn changes(
    out: &mut Vec<u8>,
    topic: &[u8],
    joins: &[Member<'_>],
    leaves: &[Member<'_>],
) -> bool {
    let len = string_len(topic) + list_len(joins) + list_len(leaves);
    if out.try_reserve(AROUND_LISTS + len).is_err() {
        return false;
    }
    begin(out, topic, None);
    out.extend_from_slice(b",\"joins\":");
    list(out, joins);
    out.extend_from_slice(b",\"leaves\":");
    list(out, leaves);
    out.push(b'}');
    true
}

/// Bytes of a member beside its info: `,{"member":"...","node":"...","info":...}`.
const AROUND_MEMBER: usize = 60;

fn list_len(members: &[Member<'_>]) -> usize {
    members.iter().map(|member| AROUND_MEMBER + string_len(member.info.as_bytes())).sum()
}

fn list(out: &mut Vec<u8>, members: &[Member<'_>]) {
    out.push(b'[');
    for (i, Member { number, node, info }) in members.iter().enumerate() {
        let comma = if i > 0 { "," } else { "" };
        let head = format!("{comma}{{\"member\":\"{number:016x}\",\"node\":\"{:08x}\"", node.0);
        out.extend_from_slice(head.as_bytes());
        if !info.is_empty() {
            out.extend_from_slice(b",\"info\":");
            string(out, info.as_bytes());
        }
        out.push(b'}');
    }
    out.push(b']');
}

fn begin(out: &mut Vec<u8>, topic: &[u8], cursor: Option<&CursorText>) {
    out.extend_from_slice(b"{\"topic\":");
    string(out, topic);
    if let Some(cursor) = cursor {
        out.extend_from_slice(b",\"cursor\":\"");
        out.extend_from_slice(cursor);
        out.push(b'"');
    }
}

/// What follows data in base64.
const MARK: &[u8] = b"\",\"base64\":true";

/// Appends a message's data: text as a string, anything else as base64 with a mark. False: there is no
/// memory for it.
pub fn payload(out: &mut Vec<u8>, text: bool, data: &[u8]) -> bool {
    if out.try_reserve(payload_len(text, data)).is_err() {
        return false;
    }
    if text {
        string(out, data);
        return true;
    }
    out.push(b'"');
    let at = out.len();
    out.resize(at + base64_len(data), 0);
    let written = STANDARD.encode_slice(data, &mut out[at..]);
    out.extend_from_slice(MARK);
    written.is_ok()
}

fn payload_len(text: bool, data: &[u8]) -> usize {
    match text {
        true => string_len(data),
        false => 1 + base64_len(data) + MARK.len(),
    }
}

/// With padding (RFC 4648 4).
fn base64_len(data: &[u8]) -> usize {
    data.len().div_ceil(3) * 4
}

/// Bytes of a string as `string` writes it.
fn string_len(text: &[u8]) -> usize {
    let chunks = text.utf8_chunks().map(|chunk| {
        let valid = chunk.valid().bytes().map(escaped_len).sum::<usize>();
        valid + if chunk.invalid().is_empty() { 0 } else { '\u{fffd}'.len_utf8() }
    });
    2 + chunks.sum::<usize>()
}

fn escaped_len(c: u8) -> usize {
    match c {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        c if c < 0x20 => 6,
        _ => 1,
    }
}

/// Appends a string (RFC 8259 7). What is not UTF-8 in it is replaced.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    while let Some(at) = text.iter().position(|&c| c < 0x20 || matches!(c, b'"' | b'\\')) {
        out.extend_from_slice(&text[..at]);
        match text[at] {
            c @ (b'"' | b'\\') => out.extend([b'\\', c]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            c => out.extend(format!("\\u{c:04x}").as_bytes()),
        }
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_as_documented() {
        let cursor = [b'c'; CURSOR_LEN];
        let c = "c".repeat(CURSOR_LEN);
        assert_eq!(
            text(|out| assert!(message(out, b"t", Some(&cursor), true, b"d"))),
            format!(r#"{{"topic":"t","cursor":"{c}","data":"d"}}"#)
        );
        assert_eq!(
            text(|out| assert!(message(out, b"t", None, false, b"\0\xff"))),
            r#"{"topic":"t","data":"AP8=","base64":true}"#
        );
        let mut stands = State { cursor: Some(cursor), recovered: true, count: 3, reason: None };
        assert_eq!(
            text(|out| state(out, b"t", &stands)),
            format!(r#"{{"topic":"t","cursor":"{c}","resumed":true,"count":3}}"#)
        );
        stands = State { cursor: None, recovered: false, count: 0, reason: Some(Reason::TooMany) };
        assert_eq!(
            text(|out| state(out, b"t", &stands)),
            r#"{"topic":"t","resumed":false,"count":0,"reason":"too many"}"#
        );
    }

    #[test]
    fn a_line_never_grows_past_what_was_reserved_for_it() {
        let every: Vec<u8> = (0..=255).collect();
        for text in [true, false] {
            for data in [&every[..], b"", b"a", b"ab", "\u{e9}\0\"".as_bytes()] {
                let mut out = Vec::new();
                assert!(payload(&mut out, text, data));
                assert_eq!(out.len(), payload_len(text, data));
                let (mut line, cursor) = (Vec::new(), [b'c'; CURSOR_LEN]);
                assert!(message(&mut line, &every, Some(&cursor), text, data));
                assert!(line.len() <= AROUND + string_len(&every) + payload_len(text, data));
            }
        }
    }

    #[test]
    fn members_are_as_documented() {
        let node = NodeId(0xab);
        let anna = Member { number: 1, node, info: "A\"" };
        let bob = Member { number: u64::MAX, node, info: "" };
        let a = r#"{"member":"0000000000000001","node":"000000ab","info":"A\""}"#;
        let b = r#"{"member":"ffffffffffffffff","node":"000000ab"}"#;
        let both = [anna.clone(), bob.clone()];
        assert_eq!(
            text(|out| assert!(members(out, b"t", Members::All(&both)))),
            format!(r#"{{"topic":"t","members":[{a},{b}]}}"#)
        );
        assert_eq!(
            text(|out| assert!(members(out, b"t", Members::Count(101)))),
            r#"{"topic":"t","members":101}"#
        );
        assert_eq!(
            text(|out| assert!(changes(out, b"t", &[anna], &[bob]))),
            format!(r#"{{"topic":"t","joins":[{a}],"leaves":[{b}]}}"#)
        );
    }

    #[test]
    fn any_text_is_a_string() {
        let odd = "\0\x1f\"\\/\n\r\t\u{7f}é\u{2028}𝄞";
        assert_eq!(
            text(|out| string(out, odd.as_bytes())),
            "\"\\u0000\\u001f\\\"\\\\/\\n\\r\\t\u{7f}é\u{2028}𝄞\""
        );
        assert_eq!(text(|out| string(out, b"a\xffb\xe2\x82")), "\"a\u{fffd}b\u{fffd}\"");
    }
}
