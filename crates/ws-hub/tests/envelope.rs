//! Messages between workers: what goes in comes out, and garbage is refused without a panic.

use proptest::prelude::*;
use ws_hub::envelope::{Envelope, EnvelopeError, Errand, Kind, Origin, Stored, Topics, Type};
use ws_hub::topic::TopicError;
use ws_hub::{ConnId, NodeId};

const ID: ConnId = ConnId::from_bytes([0xa5; 16]);
const ORIGIN: Origin = Origin { node: NodeId(0x0403_0201), row: 3, generation: 5 };

fn plain(kind: Kind<'_>) -> Envelope<'_> {
    let (typ, payload) = (Type::Text, &b""[..]);
    Envelope {
        kind,
        typ,
        origin: ORIGIN,
        sequence: 9,
        stored: None,
        except: None,
        far: false,
        payload,
    }
}

fn encode(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::new();
    envelope.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_format_is_as_documented() {
    let envelope = Envelope {
        stored: Some(Stored { epoch: 6, offset: 7, time: 8 }),
        except: Some(ConnId::from_bytes([1; 16])),
        typ: Type::Binary,
        payload: b"pay",
        ..plain(Kind::Publish { topic: b"to" })
    };
    let mut expected = vec![2, 0, 7, 2, 1, 2, 3, 4, 3, 0, 5, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([6, 7, 8].map(u64::to_le_bytes).as_flattened());
    expected.extend([1; 16]);
    expected.extend(b"topay");
    assert_eq!(encode(&envelope), expected);

    let envelope = plain(Kind::CloseConnection { id: ID, code: 1001, reason: "bye" });
    let mut expected = vec![2, 2, 0, 0, 1, 2, 3, 4, 3, 0, 5, 0, 0xe9, 3, 9, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([0xa5; 16]);
    expected.extend(b"bye");
    assert_eq!(encode(&envelope), expected);
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let refused = |envelope: Envelope| envelope.encode(&mut Vec::new()).unwrap_err();
    let topic = |topic| refused(plain(Kind::Publish { topic }));
    assert_eq!(topic(b""), EnvelopeError::Topic(TopicError::Empty));
    assert_eq!(topic(&[0; 256]), EnvelopeError::Topic(TopicError::TooLong));
    let reason = "x".repeat(124);
    let close = plain(Kind::CloseConnection { id: ID, code: 1000, reason: &reason });
    assert_eq!(refused(close), EnvelopeError::BadReason);
    let close = plain(Kind::CloseConnection { id: ID, code: 1000, reason: "" });
    assert_eq!(refused(Envelope { payload: b"x", ..close }), EnvelopeError::Payload);
    let ask = plain(Kind::Ask { topic: b"t", id: ID, most: 1 });
    assert_eq!(refused(Envelope { payload: b"x", ..ask }), EnvelopeError::Payload);
}

#[test]
fn each_fault_has_its_error() {
    let good = encode(&plain(Kind::Publish { topic: b"topic" }));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Envelope::decode(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, 1), EnvelopeError::Version);
    assert_eq!(with(1, 11), EnvelopeError::Kind);
    assert_eq!(with(1, 4), EnvelopeError::Short);
    assert_eq!(with(2, 16), EnvelopeError::Flags);
    assert_eq!(with(2, 4), EnvelopeError::Short);
    assert_eq!(with(3, 0), EnvelopeError::Topic(TopicError::Empty));
    assert_eq!(with(3, 6), EnvelopeError::Short);
    for cut in 0..good.len() {
        assert_eq!(Envelope::decode(&good[..cut]), Err(EnvelopeError::Short), "{cut}");
    }
    let mut close = encode(&plain(Kind::CloseConnection { id: ID, code: 1000, reason: "a" }));
    *close.last_mut().unwrap() = 0xff;
    assert_eq!(Envelope::decode(&close), Err(EnvelopeError::BadReason));
    close.pop();
    close.extend([b'a'; 124]);
    assert_eq!(Envelope::decode(&close), Err(EnvelopeError::BadReason));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(
        kind in 0..14, topic in prop::collection::vec(any::<u8>(), 1..256), id: [u8; 16],
        code: u16, reason in "[a-zé]{0,60}", binary: bool, origin: (u32, u16, u16), sequence: u64,
        stored in prop::option::of(any::<[u64; 3]>()), far: bool,
        many in 0..256usize, except in prop::option::of(any::<[u8; 16]>()),
        payload in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let id = ConnId::from_bytes(id);
        let (list, mut bytes) = (vec![&topic[..]; many], Vec::new());
        let topics = Topics::new(&list, &mut bytes).unwrap();
        prop_assert_eq!(topics.iter().collect::<Vec<_>>(), list);
        let kind = match kind {
            0 => Kind::Publish { topic: &topic },
            1 => Kind::ToConnection { id },
            2 => Kind::Doorbell { topic: &topic },
            3 => Kind::CloseTopic { topic: &topic, code, reason: &reason },
            4 => Kind::PublishMany { topics },
            5 => Kind::Listens { topics },
            6 => Kind::WhoListens,
            7 => Kind::Ask { topic: &topic, id, most: u32::from(code) },
            8 => Kind::Answer { id },
            9 => Kind::Changes { topic: &topic },
            11 => Kind::HandsOver,
            12 => Kind::Untold,
            10 => {
                let key = &payload[..payload.len() % 65];
                Kind::Errand { topic: &topic, errand: Errand::Keep, key, id }
            }
            _ => Kind::CloseConnection { id, code, reason: &reason },
        };
        let has_payload = !matches!(
            kind,
            Kind::Doorbell { .. }
                | Kind::CloseTopic { .. }
                | Kind::Listens { .. }
                | Kind::WhoListens
                | Kind::HandsOver
                | Kind::Untold
                | Kind::Ask { .. }
                | Kind::CloseConnection { .. }
        );
        let payload = if has_payload { &payload[..] } else { &[] };
        let typ = if binary { Type::Binary } else { Type::Text };
        let except = except.map(ConnId::from_bytes);
        let (node, row, generation) = origin;
        let origin = Origin { node: NodeId(node), row, generation };
        let stored = stored.map(|[epoch, offset, time]| Stored { epoch, offset, time });
        let envelope = Envelope { kind, typ, origin, sequence, stored, except, far, payload };
        let bytes = encode(&envelope);
        prop_assert_eq!(Envelope::decode(&bytes), Ok(envelope));
    }

    /// Whatever decodes also encodes to the very same bytes, so there is one form of a message
    /// (the code and topic length that a kind does not use are the exception: they are ignored).
    #[test]
    fn garbage_never_panics(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400), tame: bool, head: [u8; 3],
    ) {
        if tame && bytes.len() >= 14 {
            bytes[..3].copy_from_slice(&[2, head[0] % 12, head[1] % 9]);
            bytes[3] = if matches!(bytes[1], 0 | 3..=6 | 8 | 10) { head[2] } else { 0 };
            if !matches!(bytes[1], 2 | 5) {
                bytes[12..14].fill(0);
            }
        }
        if let Ok(envelope) = Envelope::decode(&bytes) {
            let again = encode(&envelope);
            if tame {
                prop_assert_eq!(&again, &bytes);
            }
            prop_assert_eq!(Envelope::decode(&again), Ok(envelope));
        }
    }
}
