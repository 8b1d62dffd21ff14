//! What a rule's flags say of its topics: how far they reach, and who is told of their members.

/// How far a topic reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To other machines by the first broker, if there is one.
    First,
    /// By this one.
    Broker(usize),
    /// It stays on this machine.
    Here,
}

/// In a rule's flags: members of such topics may be asked for.
pub const PRESENCE: u32 = 2;
/// In a rule's flags: subscribers in JSON format are told who comes and goes.
pub const JOIN_LEAVE: u32 = 4;
/// In a rule's flags: where `Reach` stands.
const SHIFT: u32 = 8;
const HERE: u32 = 0xff;

impl Reach {
    /// As a rule's flags have it.
    pub fn flags(self) -> u32 {
        let number = match self {
            Reach::First => 0,
            Reach::Broker(n) => n as u32 + 1,
            Reach::Here => HERE,
        };
        number << SHIFT
    }

    /// From a rule's flags.
    pub fn of(flags: u32) -> Reach {
        match flags >> SHIFT & HERE {
            0 => Reach::First,
            HERE => Reach::Here,
            n => Reach::Broker(n as usize - 1),
        }
    }
}
