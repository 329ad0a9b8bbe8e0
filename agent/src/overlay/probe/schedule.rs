//! Which node is probed next, and when: a pure state machine over all of them. Time comes in from outside.

mod entry;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::entry::{Entry, Queue};
use super::bucket::Bucket;
use super::round::Flavour;
use super::routers::Said;
use super::{Cause, End, Key, Known, Outcome, Target};

/// All probes of this node together, per second.
const PER_SECOND: u32 = 50;
const AT_ONCE: u32 = 10;
/// Between two rounds of one way, where there are few: with its search a wire that has become smaller is found within a minute.
const SHORTEST_PERIOD: Duration = Duration::from_secs(40);
/// The same where there are many.
const LONGEST_PERIOD: Duration = Duration::from_mins(5);
/// What each way adds to the period. A round in which all is well is two probes, so that all of them take a fifth of [`PER_SECOND`].
const FOR_EACH: Duration = Duration::from_millis(200);

/// A probe to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// To whom.
    pub key: Key,
    /// From this address.
    pub from: IpAddr,
    /// To this address …
    pub to: IpAddr,
    /// … and port.
    pub port: u16,
    /// With this number.
    pub nonce: u64,
    /// As an IP packet, in bytes.
    pub size: u32,
    /// Whether the checksum is to be complete.
    pub checked: bool,
}

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This probe.
    Send(Send),
    /// Nothing before then.
    At(Instant),
    /// Nothing.
    Never,
}

/// What the nodes behind one VXLAN device say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Something arrives.
    pub arrives: usize,
    /// Only what has a complete checksum does.
    pub broken: usize,
    /// Nothing does, but the node answers outside of the tunnel.
    pub closed: usize,
    /// The node does not answer at all.
    pub silent: usize,
    /// Not known yet.
    pub unknown: usize,
}

/// Between two rounds of one way, of so many.
fn period(ways: usize) -> Duration {
    let ways = ways.try_into().unwrap_or(u32::MAX);
    FOR_EACH.saturating_mul(ways).clamp(SHORTEST_PERIOD, LONGEST_PERIOD)
}

/// All of them.
#[derive(Debug)]
pub struct Schedule {
    entries: BTreeMap<Key, Entry>,
    answers: BTreeSet<(Instant, Key)>,
    urgent: BTreeSet<(Instant, Key)>,
    routine: BTreeSet<(Instant, Key)>,
    /// To whom each number was sent.
    asked: HashMap<u64, Key>,
    bucket: Bucket,
    /// Keyed by the operating system's randomness: numbers that cannot be guessed.
    random: RandomState,
    counter: u64,
    rounds: u64,
    is_changed: bool,
}

impl Schedule {
    /// Of nobody.
    pub fn new(now: Instant) -> Self {
        Self {
            entries: BTreeMap::new(),
            answers: BTreeSet::new(),
            urgent: BTreeSet::new(),
            routine: BTreeSet::new(),
            asked: HashMap::new(),
            bucket: Bucket::new(PER_SECOND, AT_ONCE, now),
            random: RandomState::new(),
            counter: 0,
            rounds: 0,
            is_changed: false,
        }
    }

    /// These are probed from now on, and no others. One that is as it was goes on undisturbed.
    pub fn set(&mut self, targets: &BTreeMap<Key, Target>, now: Instant) {
        if self.entries.is_empty() {
            return self.fill(targets, now);
        }
        let gone: Vec<_> =
            self.entries.keys().filter(|key| !targets.contains_key(*key)).cloned().collect();
        for key in gone {
            self.forget_asked(&key);
            self.forget(&key);
            self.entries.remove(&key);
            self.is_changed = true;
        }
        for (key, target) in targets {
            match self.entries.get_mut(key) {
                Some(entry) if entry.target == *target => continue,
                Some(entry) => entry.become_target(target.clone()),
                None => drop(self.entries.insert(key.clone(), Entry::new(target.clone(), now))),
            }
            self.begin(key, now);
            self.is_changed = true;
        }
    }

    /// All at once: a map that is made of all its entries takes half of what it takes when they come one by one.
    fn fill(&mut self, targets: &BTreeMap<Key, Target>, now: Instant) {
        let new =
            targets.iter().map(|(key, target)| (key.clone(), Entry::new(target.clone(), now)));
        self.entries = new.collect();
        for key in targets.keys() {
            self.begin(key, now);
        }
        self.is_changed |= !targets.is_empty();
    }

    /// Begins anew with those that are `chosen`: something on the way to them has changed.
    pub fn hurry(&mut self, chosen: impl Fn(&Key, &Target) -> bool, now: Instant) {
        let entries = self.entries.iter().filter(|(key, entry)| chosen(key, &entry.target));
        let keys: Vec<_> = entries.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.begin(&key, now);
        }
    }

    /// Routers say that packets of this host were too large. A way that this is news of is probed at once.
    pub fn routers_say(&mut self, said: &Said, now: Instant) {
        let fits = |(key, entry): (&Key, &Entry)| {
            let size = entry.target.fits(said)?;
            entry.is_news(size).then(|| (key.clone(), size))
        };
        let news: Vec<_> = self.entries.iter().filter_map(fits).collect();
        for (key, size) in news {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.told = Some(size);
            let due = entry.told_due(now);
            if due <= now {
                self.begin(&key, now);
            } else if entry.queue == Queue::Routine && entry.due > due {
                self.put(&key, Queue::Routine, due);
            }
        }
    }

    /// What is to be done now. To be called until it sends nothing more.
    pub fn next(&mut self, now: Instant) -> Next {
        while let Some((due, key)) = self.answers.first().cloned() {
            if due > now {
                break;
            }
            self.without_answer(&key, now);
        }
        let urgent = self.urgent.first().filter(|(due, _)| *due <= now);
        let ready = urgent.or_else(|| self.routine.first().filter(|(due, _)| *due <= now));
        let Some((_, key)) = ready.cloned() else { return self.sleep(None) };
        match self.bucket.take(now) {
            Ok(()) => self.send(&key, now).map_or(Next::At(now), Next::Send),
            Err(then) => self.sleep(Some(then)),
        }
    }

    /// When there is something to do; of what waits for its turn not before `turn`.
    fn sleep(&self, turn: Option<Instant>) -> Next {
        let first = |queue: &BTreeSet<(Instant, Key)>| queue.first().map(|(due, _)| *due);
        let later = |due: Instant| turn.map_or(due, |turn| turn.max(due));
        let all =
            [first(&self.answers), first(&self.urgent).map(later), first(&self.routine).map(later)];
        all.into_iter().flatten().min().map_or(Next::Never, Next::At)
    }

    /// An answer came, with the number of the question. Whether it was asked for, and of whom it comes from.
    pub fn answered(&mut self, from: (IpAddr, u16), nonce: u64, now: Instant) -> bool {
        let Some(key) = self.asked.get(&nonce).cloned() else { return false };
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        let next = entry.round(now).next();
        let expected = entry.target.destination(&key, next.flavour);
        let mut asked = entry.running.iter().flat_map(|running| &running.asked);
        let Some(&(_, sent)) = asked.find(|(number, _)| *number == nonce) else { return false };
        if from != (expected, entry.target.port) {
            return false;
        }
        entry.took = now.saturating_duration_since(sent);
        let outcome = entry.round(now).arrived();
        self.go_on(&key, outcome, now);
        true
    }

    /// This host's own kernel refuses the probe because of its size.
    pub fn refused(&mut self, nonce: u64, now: Instant) {
        let Some(key) = self.asked.get(&nonce).cloned() else { return };
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let outcome = entry.round(now).refused();
        self.go_on(&key, outcome, now);
    }

    /// Whether something is known that was not when this was called before.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// How many rounds have come to their end.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// What is known of each.
    pub fn known(&self) -> BTreeMap<Key, Known> {
        self.entries.iter().map(|(key, entry)| (key.clone(), entry.known)).collect()
    }

    /// What is known of a device, by rounds that began no earlier than `since`.
    pub fn tally(&self, device: &str, since: Option<Instant>) -> Tally {
        let mut tally = Tally::default();
        for entry in self.entries.values() {
            if !entry.target.is_through(device) {
                continue;
            }
            let is_new = since.is_none_or(|since| entry.found_by.is_some_and(|by| by >= since));
            let count = match entry.known.outcome.filter(|_| is_new) {
                None => &mut tally.unknown,
                Some(Outcome::Arrives | Outcome::ArrivesUpTo(_)) => &mut tally.arrives,
                Some(Outcome::Nothing(Cause::Checksum)) => &mut tally.broken,
                Some(Outcome::Nothing(Cause::Tunnel)) => &mut tally.closed,
                Some(Outcome::Nothing(Cause::Silent)) => &mut tally.silent,
            };
            *count += 1;
        }
        tally
    }

    fn send(&mut self, key: &Key, now: Instant) -> Option<Send> {
        let nonce = self.nonce();
        let entry = self.entries.get_mut(key)?;
        let running = entry.running(now);
        let next = running.round.next();
        running.asked.push((nonce, now));
        let target = &entry.target;
        let End { from, local, .. } = *target.end;
        let send = Send {
            key: key.clone(),
            from: if next.flavour == Flavour::Outside { local } else { from },
            to: target.destination(key, next.flavour),
            port: target.port,
            nonce,
            size: next.size,
            checked: next.flavour == Flavour::Checked,
        };
        let wait = entry.wait();
        self.asked.insert(nonce, key.clone());
        self.put(key, Queue::Answer, now + wait);
        Some(send)
    }

    fn without_answer(&mut self, key: &Key, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let before = entry.round(now).next();
        let outcome = entry.round(now).lost();
        if outcome.is_none() && entry.round(now).next() == before {
            // an answer to this one may still come
            self.put(key, Queue::Urgent, now);
        } else {
            self.go_on(key, outcome, now);
        }
    }

    /// The round goes on with something else, or is at its end.
    fn go_on(&mut self, key: &Key, outcome: Option<Outcome>, now: Instant) {
        self.forget_asked(key);
        let Some(outcome) = outcome else { return self.put(key, Queue::Urgent, now) };
        let period = period(self.entries.len());
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.rounds += 1;
        let before = entry.known;
        let pause = entry.finish(outcome, period);
        self.is_changed |= entry.known != before;
        entry.told = entry.told.filter(|size| entry.is_news(*size));
        let told_due = entry.told.map(|_| entry.told_due(now));
        let due = now + self.jitter(pause);
        let due = told_due.map_or(due, |told| told.min(due));
        self.put(key, Queue::Routine, due);
    }

    fn begin(&mut self, key: &Key, now: Instant) {
        self.forget_asked(key);
        if let Some(entry) = self.entries.get_mut(key) {
            entry.running = None;
            self.put(key, Queue::Urgent, now);
        }
    }

    fn put(&mut self, key: &Key, queue: Queue, due: Instant) {
        self.forget(key);
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.queue, entry.due) = (queue, due);
            self.queue(queue).insert((due, key.clone()));
        }
    }

    /// Takes it out of its queue.
    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get(key) {
            let (queue, place) = (entry.queue, (entry.due, key.clone()));
            self.queue(queue).remove(&place);
        }
    }

    fn forget_asked(&mut self, key: &Key) {
        let running = self.entries.get_mut(key).and_then(|entry| entry.running.as_mut());
        for (nonce, _) in running.into_iter().flat_map(|running| running.asked.drain(..)) {
            self.asked.remove(&nonce);
        }
    }

    fn queue(&mut self, queue: Queue) -> &mut BTreeSet<(Instant, Key)> {
        match queue {
            Queue::Answer => &mut self.answers,
            Queue::Urgent => &mut self.urgent,
            Queue::Routine => &mut self.routine,
        }
    }

    fn nonce(&mut self) -> u64 {
        self.counter += 1;
        self.random.hash_one(self.counter)
    }

    /// A tenth more or less, so that nodes that came up together do not stay together.
    fn jitter(&mut self, pause: Duration) -> Duration {
        let per_mille = u32::try_from(self.nonce() % 201).unwrap_or_default();
        pause * (900 + per_mille) / 1000
    }
}

#[cfg(test)]
mod tests;
