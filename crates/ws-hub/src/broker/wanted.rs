//! Topics that are to be subscribed at a broker, against those that it has acknowledged. What
//! counts is the difference, not what happened: a connection that is lost sets all back to "not
//! subscribed", and whatever was said meanwhile is done once. So no topic stays deaf.

use std::collections::VecDeque;
use std::rc::Rc;

use hashbrown::HashMap;

/// The topics. A topic's name is kept once, whatever waits for it.
#[derive(Debug, Default)]
pub struct Wanted {
    topics: HashMap<Rc<[u8]>, Topic>,
    /// Topics that may have something to be done. One that has not is passed over.
    due: VecDeque<Rc<[u8]>>,
    wanted: usize,
    subscribed: usize,
    asked: usize,
}

#[derive(Clone, Copy, Debug)]
struct Topic {
    wanted: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unsubscribed,
    /// Asked, not acknowledged.
    Subscribing,
    Subscribed,
    Unsubscribing,
    /// The broker does not let it be subscribed, as long as this connection lasts.
    Denied,
}

/// What is to be asked for next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Subscribe these.
    Subscribe(Vec<Rc<[u8]>>),
    /// Unsubscribe these.
    Unsubscribe(Vec<Rc<[u8]>>),
}

impl Wanted {
    /// A topic is wanted, or is no more.
    pub fn want(&mut self, name: &[u8], wanted: bool) {
        if let Some((name, topic)) = self.topics.get_key_value_mut(name) {
            if topic.wanted != wanted {
                topic.wanted = wanted;
                self.wanted = if wanted { self.wanted + 1 } else { self.wanted - 1 };
                self.due.push_back(name.clone());
            }
        } else if wanted {
            let name: Rc<[u8]> = name.into();
            self.wanted += 1;
            self.due.push_back(name.clone());
            self.topics.insert(name, Topic { wanted, stage: Stage::Unsubscribed });
        }
    }

    /// Whether a topic is wanted.
    pub fn wants(&self, name: &[u8]) -> bool {
        self.topics.get(name).is_some_and(|topic| topic.wanted)
    }

    /// What the broker has answered for a topic: whether it is subscribed, or refused. None: nothing
    /// that still holds.
    pub fn answered(&self, name: &[u8]) -> Option<bool> {
        match self.topics.get(name)?.stage {
            Stage::Subscribed => Some(true),
            Stage::Denied => Some(false),
            _ => None,
        }
    }

    /// Those for which `keep` says no are wanted no more. What the broker was never asked for is forgotten
    /// at once: while nothing can be asked, its turn does not come.
    pub fn retain(&mut self, keep: &mut dyn FnMut(&[u8]) -> bool) {
        let Self { topics, due, wanted, .. } = self;
        let before = topics.len();
        topics.retain(|name, topic| {
            if !topic.wanted || keep(name) {
                return true;
            }
            topic.wanted = false;
            *wanted -= 1;
            let is_asked = !matches!(topic.stage, Stage::Unsubscribed | Stage::Denied);
            if is_asked {
                due.push_back(name.clone());
            }
            is_asked
        });
        if topics.len() < before {
            due.retain(|name| topics.contains_key(name));
        }
    }

    /// What is to be asked for next, at most `most` topics, of which no two are such that they must
    /// not be asked for together. They count as asked for.
    pub fn next(&mut self, most: usize, together: impl Fn(&[u8], &[u8]) -> bool) -> Option<Batch> {
        let mut names: Vec<Rc<[u8]>> = Vec::new();
        let mut subscribing = true;
        while let Some(name) = self.due.pop_front() {
            let Some(topic) = self.topics.get_mut(&name) else { continue };
            let subscribe = match (topic.wanted, topic.stage) {
                (true, Stage::Unsubscribed) => true,
                (false, Stage::Subscribed) => false,
                (false, Stage::Unsubscribed | Stage::Denied) => {
                    self.topics.remove(&name);
                    continue;
                }
                // Done, or looked at again when it is acknowledged.
                _ => continue,
            };
            match names.first() {
                None => subscribing = subscribe,
                Some(first)
                    if names.len() == most
                        || subscribing != subscribe
                        || !together(first, &name) =>
                {
                    self.due.push_front(name);
                    break;
                }
                Some(_) => {}
            }
            if subscribe {
                topic.stage = Stage::Subscribing;
            } else {
                topic.stage = Stage::Unsubscribing;
                self.subscribed -= 1;
            }
            names.push(name);
        }
        self.asked += names.len();
        match (names.is_empty(), subscribing) {
            (true, _) => None,
            (_, true) => Some(Batch::Subscribe(names)),
            (_, false) => Some(Batch::Unsubscribe(names)),
        }
    }

    /// The broker says that a topic is subscribed now, or is not: an answer, or of its own accord.
    pub fn acknowledged(&mut self, name: &[u8], subscribed: bool) {
        let Some((name, topic)) = self.topics.get_key_value_mut(name) else { return };
        let before = topic.stage;
        topic.stage = if subscribed { Stage::Subscribed } else { Stage::Unsubscribed };
        if matches!(before, Stage::Subscribing | Stage::Unsubscribing) {
            self.asked -= 1;
        }
        self.subscribed += usize::from(subscribed);
        self.subscribed -= usize::from(before == Stage::Subscribed);
        // Unwanted and not subscribed: it is forgotten when its turn comes.
        if topic.wanted != subscribed || !topic.wanted {
            self.due.push_back(name.clone());
        }
    }

    /// The broker has refused to subscribe these, or has taken them back. Several are asked for again
    /// in smaller batches; one alone is the one that was meant, and is returned.
    pub fn refused<'n>(&mut self, names: &'n [Rc<[u8]>]) -> Option<&'n Rc<[u8]>> {
        for name in names {
            let Some(topic) = self.topics.get_mut(name) else { continue };
            match topic.stage {
                Stage::Subscribing => self.asked -= 1,
                Stage::Subscribed => self.subscribed -= 1,
                Stage::Unsubscribed | Stage::Unsubscribing | Stage::Denied => continue,
            }
            topic.stage = if names.len() == 1 { Stage::Denied } else { Stage::Unsubscribed };
            self.due.push_back(name.clone());
        }
        match names {
            [name] => Some(name),
            _ => None,
        }
    }

    /// The broker cannot subscribe these now: they are asked for again.
    pub fn put_off(&mut self, names: &[Rc<[u8]>]) {
        for name in names {
            let Some(topic) = self.topics.get_mut(name) else { continue };
            if topic.stage == Stage::Subscribing {
                self.asked -= 1;
                topic.stage = Stage::Unsubscribed;
                self.due.push_back(name.clone());
            }
        }
    }

    /// It has been asked to unsubscribe this, and has done so.
    pub fn left(&mut self, name: &[u8]) {
        if self.topics.get(name).is_some_and(|topic| topic.stage == Stage::Unsubscribing) {
            self.acknowledged(name, false);
        }
    }

    /// It has been asked to, and has not.
    pub fn stayed(&mut self, name: &[u8]) {
        if self.topics.get(name).is_some_and(|topic| topic.stage == Stage::Unsubscribing) {
            self.acknowledged(name, true);
        }
    }

    /// What is due is asked for in the order of names.
    pub fn sort(&mut self) {
        self.due.make_contiguous().sort_unstable();
    }

    /// Those that are wanted.
    pub fn all_wanted(&self) -> impl Iterator<Item = &[u8]> {
        self.topics.iter().filter(|(_, topic)| topic.wanted).map(|(name, _)| &**name)
    }

    /// Those that are subscribed.
    pub fn all_subscribed(&self) -> impl Iterator<Item = &[u8]> {
        let are = self.topics.iter().filter(|(_, topic)| topic.stage == Stage::Subscribed);
        are.map(|(name, _)| &**name)
    }

    /// The connection is lost: nothing is subscribed any more.
    pub fn reset(&mut self) {
        (self.subscribed, self.asked) = (0, 0);
        self.topics.retain(|_, topic| topic.wanted);
        self.due.clear();
        for (name, topic) in &mut self.topics {
            topic.stage = Stage::Unsubscribed;
            self.due.push_back(name.clone());
        }
    }

    /// Whether nothing is to be asked for, and all that was has been acknowledged.
    pub fn is_level(&self) -> bool {
        self.due.is_empty() && self.asked == 0
    }

    /// How many have been asked for, and not acknowledged.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// How many topics are wanted.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// How many are subscribed.
    pub fn subscribed(&self) -> usize {
        self.subscribed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(set: &mut Wanted, most: usize) -> Option<Batch> {
        set.next(most, |_, _| true)
    }

    fn names(batch: Option<Batch>) -> (bool, Vec<String>) {
        let (subscribe, names) = match batch {
            Some(Batch::Subscribe(names)) => (true, names),
            Some(Batch::Unsubscribe(names)) => (false, names),
            None => (false, Vec::new()),
        };
        (subscribe, names.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect())
    }

    fn all(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn what_changes_while_it_is_asked_for_is_done_after_the_answer() {
        let mut set = Wanted::default();
        set.want(b"a", true);
        assert_eq!(names(next(&mut set, 9)), (true, all(&["a"])));
        set.want(b"a", false);
        assert_eq!(next(&mut set, 9), None, "not before the answer");
        assert!(!set.is_level());
        set.acknowledged(b"a", true);
        assert_eq!(names(next(&mut set, 9)), (false, all(&["a"])));
        set.want(b"a", true);
        set.acknowledged(b"a", false);
        assert_eq!(names(next(&mut set, 9)), (true, all(&["a"])));
        set.acknowledged(b"a", true);
        assert_eq!((next(&mut set, 9), set.wanted(), set.subscribed()), (None, 1, 1));
        assert!(set.is_level());
        set.want(b"a", false);
        next(&mut set, 9);
        set.acknowledged(b"a", false);
        assert_eq!((next(&mut set, 9), set.wanted(), set.topics.len()), (None, 0, 0));
    }

    #[test]
    fn batches_are_of_one_kind_and_bounded() {
        let mut set = Wanted::default();
        for name in ["a", "b", "c"] {
            set.want(name.as_bytes(), true);
        }
        assert_eq!(names(next(&mut set, 2)), (true, all(&["a", "b"])));
        set.acknowledged(b"a", true);
        set.acknowledged(b"b", true);
        set.want(b"a", false);
        assert_eq!(names(next(&mut set, 2)), (true, all(&["c"])));
        assert_eq!(names(next(&mut set, 2)), (false, all(&["a"])));
        assert_eq!((set.wanted(), set.subscribed()), (2, 1));
    }

    #[test]
    fn a_lost_connection_makes_all_due_again() {
        let mut set = Wanted::default();
        set.want(b"a", true);
        set.want(b"b", true);
        next(&mut set, 9);
        set.acknowledged(b"a", true);
        set.want(b"a", false);
        set.reset();
        assert_eq!(names(next(&mut set, 9)), (true, all(&["b"])));
        assert_eq!((set.wanted(), set.subscribed()), (1, 0));
    }

    #[test]
    fn a_topic_that_the_broker_drops_is_asked_for_again() {
        let mut set = Wanted::default();
        set.want(b"a", true);
        next(&mut set, 9);
        set.acknowledged(b"a", true);
        set.acknowledged(b"a", false);
        assert_eq!(names(next(&mut set, 9)), (true, all(&["a"])));
        set.acknowledged(b"unknown", true);
        assert_eq!(set.subscribed(), 0);
    }

    #[test]
    fn of_a_refused_batch_only_the_one_that_is_meant_stays_out() {
        let mut set = Wanted::default();
        for name in ["a", "b"] {
            set.want(name.as_bytes(), true);
        }
        let Some(Batch::Subscribe(both)) = next(&mut set, 9) else { panic!("a batch") };
        assert_eq!(set.refused(&both), None);
        let Some(Batch::Subscribe(first)) = next(&mut set, 1) else { panic!("a batch") };
        assert_eq!(set.refused(&first).map(|name| &**name), Some(&b"a"[..]));
        assert_eq!(names(next(&mut set, 1)), (true, all(&["b"])));
        set.acknowledged(b"b", true);
        assert_eq!(next(&mut set, 1), None);
        assert!(set.is_level());
        set.reset();
        assert_eq!(names(next(&mut set, 9)).1.len(), 2, "another connection may have more rights");
    }

    #[test]
    fn what_is_taken_back_is_subscribed_no_more() {
        let mut set = Wanted::default();
        set.want(b"a", true);
        next(&mut set, 9);
        set.acknowledged(b"a", true);
        set.refused(&[b"a"[..].into()]);
        assert_eq!(
            (set.answered(b"a"), set.subscribed(), next(&mut set, 9)),
            (Some(false), 0, None)
        );
        set.want(b"a", false);
        assert_eq!((next(&mut set, 9), set.topics.len()), (None, 0));
    }

    #[test]
    fn those_that_are_not_kept_are_unsubscribed() {
        let mut set = Wanted::default();
        for name in ["a", "b"] {
            set.want(name.as_bytes(), true);
        }
        next(&mut set, 9);
        set.acknowledged(b"a", true);
        set.acknowledged(b"b", true);
        set.retain(&mut |name| name == b"b");
        assert_eq!(names(next(&mut set, 9)), (false, all(&["a"])));
        assert!(set.wants(b"b") && !set.wants(b"a"));
    }

    #[test]
    fn what_comes_and_goes_while_nothing_can_be_asked_leaves_nothing() {
        let mut set = Wanted::default();
        set.want(b"stays", true);
        for n in 0..100 {
            set.want(format!("a{n}").as_bytes(), true);
            set.retain(&mut |name| name == b"stays");
        }
        assert_eq!((set.topics.len(), set.due.len(), set.wanted()), (1, 1, 1));
        assert_eq!(names(next(&mut set, 9)), (true, all(&["stays"])));
        assert!(!set.is_level());
        set.acknowledged(b"stays", true);
        assert!(set.is_level());
    }

    #[test]
    fn what_must_not_be_together_is_not() {
        let mut set = Wanted::default();
        for name in ["b1", "a1", "b2", "a2"] {
            set.want(name.as_bytes(), true);
        }
        set.sort();
        for expected in [["a1", "a2"], ["b1", "b2"]] {
            assert_eq!(names(set.next(9, |a, b| a[0] == b[0])).1, all(&expected));
        }
        set.put_off(&[b"a1"[..].into()]);
        assert_eq!((set.asked(), names(next(&mut set, 9)).1), (3, all(&["a1"])));
        set.acknowledged(b"b1", true);
        assert_eq!(set.all_subscribed().collect::<Vec<_>>(), [b"b1"]);
    }
}
