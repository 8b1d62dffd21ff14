//! Writing: a message into its topic, and the rules.

use super::cells::{chain_len, Cell, Half, CELL_BYTES};
use super::lock::Slot;
use super::parts::{Parts, EPOCH, GENERATION, RULES};
use super::record::{
    number, set_place, About, Place, KEY_EPOCH, KEY_HASH, LEN, NEXT, OFFSET, OLDER, PREVIOUS, SKIP,
    TOPIC,
};
use super::row::{
    row_cells, BUSY_FLAG, CELLS, COUNT, EPOCH_OF, FIRST, LAST, SKIP_TO, TOP, USED_AT,
};
use super::{HistoryError, Limits, Message, Position, Published, Topic, KEY_MS};

/// Part of the zone that a topic may fill if its limits do not say.
const SHARE: usize = 8;
/// Part of the zone that the rules may fill.
const RULES_SHARE: usize = 4;
/// Where the rules' bytes begin in their first cell.
const RULES_START: usize = 1;
const RULES_CELL: Half = Half::low(0);
const RULES_LEN: Half = Half::high(0);

/// What the record of a message will say of itself.
pub(super) fn about(message: &Message<'_>, key: &[u8], place: Option<Place>, time: u64) -> About {
    About { time, flags: message.flags, key: key.len() as u8, copied: place.is_some() }
}

impl Parts<'_> {
    /// How many cells a topic's records may have: never more than half of the zone, so that
    /// there is room for the topic and the rules.
    pub(super) fn most_cells(&self, limits: &Limits) -> usize {
        let all = self.cells.end();
        let cells = match limits.bytes {
            0 => all / SHARE,
            bytes => usize::try_from(bytes / CELL_BYTES as u64).unwrap_or(usize::MAX),
        };
        cells.min(all / 2)
    }

    pub(super) fn is_busy(&self, row: Cell) -> bool {
        self.cells.half(row, BUSY_FLAG) != 0
    }

    pub(super) fn publish(
        &self,
        topic: &Topic<'_>,
        message: &Message<'_>,
        now: u64,
        random: fn() -> u64,
    ) -> Result<Published, HistoryError> {
        if topic.generation != self.generation() {
            return Err(HistoryError::Stale);
        }
        let key = message.key.unwrap_or_default();
        let most = self.most_cells(&topic.limits);
        let about = about(message, key, None, now);
        let need = about.cells(message.data.len());
        if need > most {
            return Err(HistoryError::TooLarge);
        }
        let found = self.find(topic.name);
        let again = found.filter(|_| !key.is_empty()).and_then(|row| self.repeated(row, key, now));
        if let Some(position) = again {
            return Ok(Published { position, repeated: true });
        }
        let row = match found {
            Some(row) => row,
            None => {
                self.make_room(row_cells(topic.name.len()) + need, 0, now, random)?;
                // Only now: making room may have begun a new epoch.
                self.add_row(topic.name, self.get(EPOCH), now)
            }
        };
        self.lock.begin(Slot::Own, row);
        let now = now.max(self.cells.word(row, USED_AT));
        self.set_limits(row, topic.limits);
        self.trim_cells(row, most - need);
        let room = self.make_room(need, row, now, random);
        let position = room.map(|()| self.append(row, message, key, None, now));
        self.trim(row, &topic.limits, now);
        self.lock.end(Slot::Own);
        self.touch(row, message.subscribed);
        self.sweep(row, now, random);
        Ok(Published { position: position?, repeated: false })
    }

    /// The position of the message that has this key, if it is still remembered.
    fn repeated(&self, row: Cell, key: &[u8], now: u64) -> Option<Position> {
        let record = self.find_key(row, key)?;
        let time = About::of(&self.cells, record).time;
        let offset = self.cells.word(record, OFFSET);
        let epoch = self.cells.word(row, EPOCH_OF);
        (now.saturating_sub(time) <= KEY_MS).then_some(Position { epoch, offset })
    }

    /// Stores the message as the topic's newest; in a copy at its place. The row is under change, and
    /// the cells are free.
    pub(super) fn append(
        &self,
        row: Cell,
        message: &Message<'_>,
        key: &[u8],
        place: Option<Place>,
        now: u64,
    ) -> Position {
        let cells = &self.cells;
        let about = about(message, key, place, now);
        let record = cells.take(about.cells(message.data.len()));
        let offset = place.map_or_else(|| cells.word(row, TOP) + 1, |place| place.offset);
        let epoch = cells.word(row, EPOCH_OF);
        let last = cells.half(row, LAST);
        cells.set_half(record, LEN, message.data.len() as u32);
        cells.set_word(record, OFFSET, offset);
        about.store(cells, record);
        cells.set_half(record, PREVIOUS, last);
        cells.set_half(record, NEXT, 0);
        cells.set_half(record, OLDER, cells.half(self.more(row), SKIP_TO));
        cells.set_half(record, TOPIC, row);
        cells.store(record, about.start(), &[key, message.data]);
        if let Some(place) = place {
            let number = if last == 0 { 1 } else { number(cells, last) + 1 };
            set_place(cells, record, place.before, number);
        }
        if !key.is_empty() {
            cells.set_half(record, KEY_HASH, self.key_hash(row, key));
            cells.set_word(record, KEY_EPOCH, epoch);
            self.add_key(record);
        }
        match last {
            0 => cells.set_half(row, FIRST, record),
            _ => cells.set_half(last, NEXT, record),
        }
        cells.set_half(row, LAST, record);
        if number(cells, record).is_multiple_of(SKIP) {
            cells.set_half(self.more(row), SKIP_TO, record);
        }
        let n = about.cells(message.data.len()) as u32;
        cells.set_half(row, CELLS, cells.half(row, CELLS) + n);
        cells.set_half(row, COUNT, cells.half(row, COUNT) + 1);
        cells.set_word(row, TOP, offset);
        cells.set_word(row, USED_AT, now);
        Position { epoch, offset }
    }

    /// Makes these the rules, unless they are; an error leaves the old ones.
    pub(super) fn replace_rules(
        &self,
        bytes: &[u8],
        now: u64,
        random: fn() -> u64,
    ) -> Result<(), HistoryError> {
        let mut old = Vec::new();
        self.load_rules(&mut old);
        if old == bytes {
            return Ok(());
        }
        let need = chain_len(RULES_START, bytes.len());
        if need > self.cells.end() / RULES_SHARE {
            return Err(HistoryError::Rules);
        }
        self.make_room(need, 0, now, random)?;
        let new = self.cells.take(need);
        self.cells.store(new, RULES_START, &[bytes]);
        let before = RULES_CELL.get(self.get(RULES));
        self.commit(RULES, RULES_LEN.put(new.into(), bytes.len() as u32));
        self.commit(GENERATION, self.get(GENERATION) + 1);
        if before != 0 {
            self.cells.give(before);
        }
        Ok(())
    }

    /// The bytes of the rules.
    pub(super) fn load_rules(&self, out: &mut Vec<u8>) {
        out.clear();
        let rules = self.get(RULES);
        let cell = RULES_CELL.get(rules);
        if cell != 0 {
            self.cells.load(cell, RULES_START, RULES_LEN.get(rules) as usize, out);
        }
    }
}
