//! What waits for a broker, in order, bounded in bytes and in time. Several servers of one broker have
//! a queue each, and one bound for all.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Things that wait.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Of all queues with this bound.
    bytes: Rc<Cell<usize>>,
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
        Self { waiting: VecDeque::new(), bytes: Rc::default(), most, retry }
    }

    /// Another one, which fills up with this.
    pub fn beside(&self) -> Self {
        let (bytes, most, retry) = (self.bytes.clone(), self.most, self.retry);
        Self { waiting: VecDeque::new(), bytes, most, retry }
    }

    /// Puts something of so many bytes behind the others. Returns it if there is no room.
    pub fn push(&mut self, what: T, len: usize, now: u64) -> Result<(), T> {
        if self.bytes() + len > self.most {
            return Err(what);
        }
        self.bytes.set(self.bytes() + len);
        self.waiting.push_back(Waiting { what, len, until: self.until(now) });
        Ok(())
    }

    /// Until when what comes now may wait.
    pub fn until(&self, now: u64) -> u64 {
        now + self.retry
    }

    /// Puts something that was taken before the others, whatever the bound; it waits until then.
    pub fn push_back_in(&mut self, what: T, len: usize, until: u64) {
        self.bytes.set(self.bytes() + len);
        self.waiting.push_front(Waiting { what, len, until });
    }

    /// Takes out those that are like this, in their order, each with its length and until when it
    /// may wait.
    pub fn take_out(&mut self, mut like: impl FnMut(&T) -> bool) -> Vec<(T, usize, u64)> {
        let (out, rest): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|waiting| like(&waiting.what));
        self.waiting = rest.into();
        let bytes: usize = out.iter().map(|waiting| waiting.len).sum();
        self.bytes.set(self.bytes() - bytes);
        out.into_iter().map(|Waiting { what, len, until }| (what, len, until)).collect()
    }

    /// The length of the first.
    pub fn next_len(&self) -> Option<usize> {
        self.waiting.front().map(|first| first.len)
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<T> {
        let first = self.waiting.pop_front()?;
        self.bytes.set(self.bytes() - first.len);
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

    /// Bytes that wait, in those beside it too.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Whether nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
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
        queue.push_back_in('e', 20, 100);
        assert_eq!((queue.bytes(), queue.pop_if(|&first| first == 'e')), (20, Some('e')));
    }

    #[test]
    fn queues_beside_each_other_have_one_bound() {
        let mut one = Queue::new(10, 100);
        let mut other = one.beside();
        for (what, now) in [('a', 0), ('b', 1), ('c', 2)] {
            one.push(what, 3, now).unwrap();
        }
        assert_eq!(other.push('d', 3, 0), Err('d'));
        assert_eq!(one.take_out(|&what| what != 'b'), [('a', 3, 100), ('c', 3, 102)]);
        assert_eq!(other.push('d', 3, 0), Ok(()));
        assert_eq!((one.bytes(), one.pop(), other.pop()), (6, Some('b'), Some('d')));
        assert!(one.is_empty() && one.bytes() == 0);
    }
}
