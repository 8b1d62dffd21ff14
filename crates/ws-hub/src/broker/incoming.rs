//! What is accepted from a broker: nobody trusts it. A message must be an envelope of this version
//! and be for whom its channel is for, so that rights to channels are rights to topics.

use crate::envelope::{Envelope, Kind};
use crate::id::NodeId;

/// Over which channel a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via<'a> {
    /// That of a topic.
    Topic(&'a [u8]),
    /// That of this machine.
    Node,
    /// That of all machines.
    All,
}

/// Why a message is not for anybody here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It came from here, and has been heard here.
    Own,
    /// It is none, or not for whom its channel is for.
    Bad,
}

/// The message that `bytes` hold, for the machine `own`.
pub fn check<'a>(via: Via<'_>, bytes: &'a [u8], own: NodeId) -> Result<Envelope<'a>, Unfit> {
    let message = Envelope::decode(bytes).map_err(|_| Unfit::Bad)?;
    let fits = match (&message.kind, via) {
        (
            Kind::Publish { topic } | Kind::CloseTopic { topic, .. } | Kind::Changes { topic },
            Via::Topic(channel),
        ) => *topic == channel,
        (Kind::PublishMany { .. } | Kind::CloseTopic { .. } | Kind::Untold, Via::All) => true,
        // Who is answered is a machine of the same name.
        (Kind::Ask { id, .. }, Via::All) => id.node() == message.origin.node,
        (
            Kind::ToConnection { id } | Kind::CloseConnection { id, .. } | Kind::Answer { id },
            Via::Node,
        ) => id.node() == own,
        _ => false,
    };
    // Plain topics have no positions; a topic that has them would believe these.
    if !fits || message.stored.is_some() {
        return Err(Unfit::Bad);
    }
    if message.origin.node == own {
        return Err(Unfit::Own);
    }
    Ok(message)
}

/// The message of a topic's history that `bytes` hold, this machine's own ones too.
pub fn check_stored<'a>(topic: &[u8], bytes: &'a [u8]) -> Result<Envelope<'a>, Unfit> {
    let message = Envelope::decode(bytes).map_err(|_| Unfit::Bad)?;
    match message.kind {
        Kind::Publish { topic: of } if of == topic && message.stored.is_none() => Ok(message),
        _ => Err(Unfit::Bad),
    }
}

/// Of heartbeats; that of messages is another.
const VERSION: u8 = 1;

/// Milliseconds between heartbeats, more or less a fifth of them.
pub const HEARTBEAT: u64 = 5000;

/// What a machine says to all others now and then: its name, behind a version.
pub fn heartbeat(node: NodeId) -> [u8; 5] {
    let [a, b, c, d] = node.0.to_le_bytes();
    [VERSION, a, b, c, d]
}

/// The machine that has said so. Later versions may say more.
pub fn heard(bytes: &[u8]) -> Option<NodeId> {
    match *bytes {
        [VERSION, a, b, c, d, ..] => Some(NodeId(u32::from_le_bytes([a, b, c, d]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Origin, Stored, Type};
    use crate::ConnId;

    const OWN: NodeId = NodeId(7);
    const THEIRS: NodeId = NodeId(8);

    fn bytes(kind: Kind<'_>, node: NodeId, stored: Option<Stored>) -> Vec<u8> {
        let origin = Origin { node, row: 1, generation: 1 };
        let payload: &[u8] = match kind {
            Kind::CloseConnection { .. } | Kind::Ask { .. } | Kind::Untold => b"",
            _ => b"x",
        };
        let typ = Type::Text;
        let message =
            Envelope { kind, typ, origin, sequence: 1, stored, except: None, far: false, payload };
        let mut out = Vec::new();
        message.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn a_message_is_for_whom_its_channel_is_for() {
        let topic = bytes(Kind::Publish { topic: b"a" }, THEIRS, None);
        assert!(check(Via::Topic(b"a"), &topic, OWN).is_ok());
        assert_eq!(check(Via::Topic(b"b"), &topic, OWN), Err(Unfit::Bad));
        assert_eq!(check(Via::Node, &topic, OWN), Err(Unfit::Bad));
        for (node, good) in [(OWN, true), (THEIRS, false)] {
            let id = ConnId::new(node, 1, 1, [1; 9]);
            let to = bytes(Kind::ToConnection { id }, THEIRS, None);
            let close = bytes(Kind::CloseConnection { id, code: 1000, reason: "" }, THEIRS, None);
            assert_eq!(check(Via::Node, &to, OWN).is_ok(), good);
            assert_eq!(check(Via::Node, &close, OWN).is_ok(), good);
            assert_eq!(check(Via::Topic(b"a"), &to, OWN), Err(Unfit::Bad));
        }
    }

    #[test]
    fn who_is_there_is_asked_of_all_and_answered_to_one() {
        let id = |node| ConnId::new(node, 1, 1, [1; 9]);
        let ask = |node| bytes(Kind::Ask { topic: b"a", id: id(node), most: 1 }, THEIRS, None);
        assert!(check(Via::All, &ask(THEIRS), OWN).is_ok());
        assert_eq!(check(Via::All, &ask(OWN), OWN), Err(Unfit::Bad), "in another's name");
        assert_eq!(check(Via::Topic(b"a"), &ask(THEIRS), OWN), Err(Unfit::Bad));
        for (node, good) in [(OWN, true), (THEIRS, false)] {
            let answer = bytes(Kind::Answer { id: id(node) }, THEIRS, None);
            assert_eq!(check(Via::Node, &answer, OWN).is_ok(), good);
            assert_eq!(check(Via::All, &answer, OWN), Err(Unfit::Bad));
        }
        let changes = bytes(Kind::Changes { topic: b"a" }, THEIRS, None);
        assert!(check(Via::Topic(b"a"), &changes, OWN).is_ok());
        assert_eq!(check(Via::All, &changes, OWN), Err(Unfit::Bad));
        let untold = bytes(Kind::Untold, THEIRS, None);
        assert!(check(Via::All, &untold, OWN).is_ok());
        assert_eq!(check(Via::Node, &untold, OWN), Err(Unfit::Bad));
    }

    #[test]
    fn what_came_from_here_is_known_and_what_is_none_is_refused() {
        let own = bytes(Kind::Publish { topic: b"a" }, OWN, None);
        assert_eq!(check(Via::Topic(b"a"), &own, OWN), Err(Unfit::Own));
        let stored = Some(Stored { epoch: 1, offset: 1, time: 1 });
        let stored = bytes(Kind::Publish { topic: b"a" }, THEIRS, stored);
        assert_eq!(check(Via::Topic(b"a"), &stored, OWN), Err(Unfit::Bad));
        for bad in [&b""[..], b"\x01", &own[..own.len() / 2]] {
            assert_eq!(check(Via::Topic(b"a"), bad, OWN), Err(Unfit::Bad));
        }
    }

    #[test]
    fn a_heartbeat_names_its_machine() {
        assert_eq!(heard(&heartbeat(THEIRS)), Some(THEIRS));
        assert_eq!(heard(&[&heartbeat(THEIRS)[..], b"more"].concat()), Some(THEIRS));
        assert_eq!((heard(b""), heard(b"\x02abcd"), heard(b"\x01abc")), (None, None, None));
    }
}
