//! What waits for a broker, in order, bounded in bytes and in time.

use std::collections::VecDeque;

/// Things that wait.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    most: usize,
    retry: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    what: T,
    len: usize,
    until: u64,
}

impl<T> Queue<T> {
    /// For at most `most` bytes, each of which waits for `retry` milliseconds at most.
    pub fn new(most: usize, retry: u64) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, most, retry }
    }

    /// Puts something of so many bytes behind the others. Returns it if there is no room.
    pub fn push(&mut self, what: T, len: usize, now: u64) -> Result<(), T> {
        if self.bytes + len > self.most {
            return Err(what);
        }
        self.bytes += len;
        self.waiting.push_back(Waiting { what, len, until: now + self.retry });
        Ok(())
    }

    /// Puts something that was taken before the others, whatever the bound.
    pub fn push_back_in(&mut self, what: T, len: usize, now: u64) {
        self.bytes += len;
        self.waiting.push_front(Waiting { what, len, until: now + self.retry });
    }

    /// The length of the first.
    pub fn next_len(&self) -> Option<usize> {
        self.waiting.front().map(|first| first.len)
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<T> {
        let first = self.waiting.pop_front()?;
        self.bytes -= first.len;
        Some(first.what)
    }

    /// Takes the first, if it has waited too long.
    pub fn expired(&mut self, now: u64) -> Option<T> {
        let is_over = self.waiting.front().is_some_and(|first| first.until <= now);
        is_over.then(|| self.pop()).flatten()
    }

    /// The first, if it is like this.
    pub fn pop_if(&mut self, like: impl FnOnce(&T) -> bool) -> Option<T> {
        let is_like = self.waiting.front().is_some_and(|first| like(&first.what));
        is_like.then(|| self.pop()).flatten()
    }

    /// When the first has waited too long.
    pub fn due(&self) -> Option<u64> {
        self.waiting.front().map(|first| first.until)
    }

    /// The largest that it takes.
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
        assert_eq!(queue.push('a', 5, 0), Ok(()));
        assert_eq!(queue.push('b', 4, 50), Ok(()));
        assert_eq!(queue.push('c', 2, 60), Err('c'), "one byte too many");
        assert_eq!(queue.push('d', 1, 60), Ok(()));
        assert_eq!((queue.bytes(), queue.due(), queue.next_len()), (10, Some(100), Some(5)));
        assert_eq!((queue.expired(99), queue.pop_if(|&first| first == 'b')), (None, None));
        assert_eq!((queue.expired(150), queue.expired(150)), (Some('a'), Some('b')));
        assert_eq!((queue.expired(150), queue.pop()), (None, Some('d')));
        assert_eq!((queue.bytes(), queue.due(), queue.pop()), (0, None, None));
        queue.push_back_in('e', 20, 0);
        assert_eq!((queue.bytes(), queue.pop_if(|&first| first == 'e')), (20, Some('e')));
    }
}
