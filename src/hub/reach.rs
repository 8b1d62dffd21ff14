//! How far a topic reaches, as its rule's flags have it.

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

/// Where it stands in a rule's flags.
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
