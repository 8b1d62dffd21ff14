//! What waits for a broker: commands as they will be sent, in order, bounded in bytes and in time.

use std::collections::VecDeque;

/// Commands that wait.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    most: usize,
    retry: u64,
}

#[derive(Debug)]
struct Waiting {
    command: Vec<u8>,
    until: u64,
}

impl Queue {
    /// For at most `most` bytes, each of which waits for `retry` milliseconds at most.
    pub fn new(most: usize, retry: u64) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, most, retry }
    }

    /// Puts a command behind the others. False: there is no room.
    pub fn push(&mut self, command: Vec<u8>, now: u64) -> bool {
        if self.bytes + command.len() > self.most {
            return false;
        }
        self.bytes += command.len();
        self.waiting.push_back(Waiting { command, until: now + self.retry });
        true
    }

    /// The length of the first command.
    pub fn next_len(&self) -> Option<usize> {
        self.waiting.front().map(|first| first.command.len())
    }

    /// Takes the first command.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let first = self.waiting.pop_front()?;
        self.bytes -= first.command.len();
        Some(first.command)
    }

    /// Drops what has waited too long. Returns how many commands that were.
    pub fn expire(&mut self, now: u64) -> usize {
        let before = self.waiting.len();
        while self.waiting.front().is_some_and(|first| first.until <= now) {
            self.pop();
        }
        before - self.waiting.len()
    }

    /// When the first command has waited too long.
    pub fn due(&self) -> Option<u64> {
        self.waiting.front().map(|first| first.until)
    }

    /// The largest command that it takes.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_order_and_its_bounds() {
        let mut queue = Queue::new(10, 100);
        assert!(queue.push(b"12345".to_vec(), 0));
        assert!(queue.push(b"1234".to_vec(), 50));
        assert!(!queue.push(b"12".to_vec(), 60), "one byte too many");
        assert!(queue.push(b"1".to_vec(), 60));
        assert_eq!((queue.bytes(), queue.due(), queue.next_len()), (10, Some(100), Some(5)));
        assert_eq!(queue.expire(99), 0);
        assert_eq!(queue.expire(150), 2);
        assert_eq!(queue.pop().as_deref(), Some(&b"1"[..]));
        assert_eq!((queue.bytes(), queue.due(), queue.pop()), (0, None, None));
    }
}
