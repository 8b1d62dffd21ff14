//! `websocket_rate` and `websocket_max_lifetime`: what one connection may take of the server, in messages
//! and in time.

use ws_conn::Rate;

use super::arguments::ArgumentError;
use super::location::Location;
use super::time::{number, parse_time};

impl Location {
    /// Reads the arguments of `websocket_rate`.
    pub fn set_rate(&mut self, args: &[&[u8]]) -> Result<(), ArgumentError> {
        if self.rate.is_some() {
            return Err(ArgumentError::Duplicate);
        }
        let (first, burst) = words(args, b"burst=")?;
        let rate = parse_rate(first).ok_or_else(|| ArgumentError::value(first))?;
        self.rate = Some(match (rate, burst) {
            (Some(rate), Some(burst)) => {
                let n = number(burst).and_then(|n| n.try_into().ok());
                Some(Rate { burst: n.ok_or_else(|| ArgumentError::parameter(args[1]))?, ..rate })
            }
            (None, Some(_)) => return Err(ArgumentError::parameter(args[1])),
            (rate, None) => rate,
        });
        Ok(())
    }

    /// Reads the arguments of `websocket_max_lifetime`.
    pub fn set_lifetime(&mut self, args: &[&[u8]]) -> Result<(), ArgumentError> {
        if self.lifetime.is_some() {
            return Err(ArgumentError::Duplicate);
        }
        let (first, over) = words(args, b"over=")?;
        let time = parse_time(first).ok_or_else(|| ArgumentError::value(first))?;
        let over = match over {
            Some(over) => {
                let over = parse_time(over).filter(|_| time > 0);
                over.ok_or_else(|| ArgumentError::parameter(args[1]))?
            }
            None => 0,
        };
        self.lifetime = Some((time > 0).then_some((time, over)));
        Ok(())
    }
}

/// The first argument, and what follows `name` in the second.
fn words<'a>(
    args: &[&'a [u8]],
    name: &[u8],
) -> Result<(&'a [u8], Option<&'a [u8]>), ArgumentError> {
    match args {
        [first] => Ok((first, None)),
        [first, second] => match second.strip_prefix(name) {
            Some(value) => Ok((first, Some(value))),
            None => Err(ArgumentError::parameter(second)),
        },
        _ => Err(ArgumentError::Text("no arguments".to_string())),
    }
}

/// `10r/s`, `30r/m` or `0`, with a burst of as many messages. The outer None: nothing of these.
fn parse_rate(text: &[u8]) -> Option<Option<Rate>> {
    let (digits, period) = match text.strip_suffix(b"r/s") {
        Some(digits) => (digits, 1000),
        None => match text.strip_suffix(b"r/m") {
            Some(digits) => (digits, 60_000),
            None => return (text == b"0").then_some(None),
        },
    };
    let messages = number(digits)?.try_into().ok().filter(|&n| n > 0)?;
    Some(Some(Rate { messages, period, burst: messages }))
}
