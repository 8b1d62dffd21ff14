//! Positions as clients see them.

use ws_hub::history::{Cursor, Position};
use ws_hub::json::CursorText;
use ws_hub::TopicHash;

/// The cursor of a position in a topic.
pub fn cursor(topic: &[u8], position: Position) -> CursorText {
    Cursor { topic: TopicHash::of(topic), position }.encode()
}
