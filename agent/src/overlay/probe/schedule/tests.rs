use std::sync::Arc;

use super::*;
use crate::overlay::probe::round::SMALL;

fn ip(number: u32) -> IpAddr {
    let [_, a, b, c] = number.to_be_bytes();
    IpAddr::from([10, a, b, c])
}

fn key(number: u32) -> Key {
    Key { node: format!("n{number}").into(), to: ip(number) }
}

fn target(number: u32) -> Target {
    of_size(number, 1450)
}

fn of_size(number: u32, full: u32) -> Target {
    let end = End {
        from: IpAddr::from([10, 255, 0, 0]),
        local: IpAddr::from([192, 0, 2, 1]),
        device: Some("heddle.1".into()),
        full,
        floor: 576,
    };
    let port = 8473 + u16::try_from(number % 2).unwrap();
    Target { end: Arc::new(end), port, remote: IpAddr::from([192, 0, 2, 2]) }
}

fn targets(numbers: impl IntoIterator<Item = u32>) -> BTreeMap<Key, Target> {
    numbers.into_iter().map(|number| (key(number), target(number))).collect()
}

/// A network with a clock: which probes come back, and after how long.
struct World<F> {
    schedule: Schedule,
    now: Instant,
    start: Instant,
    carries: F,
    under_way: BTreeSet<(Instant, u64, IpAddr, u16)>,
    sent: Vec<(Instant, Send)>,
}

const DELAY: Duration = Duration::from_millis(2);

impl<F: Fn(&Send) -> bool> World<F> {
    fn new(targets: &BTreeMap<Key, Target>, carries: F) -> Self {
        let now = Instant::now() + Duration::from_hours(1);
        let mut schedule = Schedule::new(now);
        schedule.set(targets, now);
        let (under_way, sent) = (BTreeSet::new(), Vec::new());
        Self { schedule, now, start: now, carries, under_way, sent }
    }

    fn run(&mut self, length: Duration) {
        let end = self.now + length;
        while self.now <= end {
            let next = self.schedule.next(self.now);
            let then = match next {
                Next::Send(send) => {
                    if (self.carries)(&send) {
                        let at = self.now + DELAY;
                        self.under_way.insert((at, send.nonce, send.to, send.port));
                    }
                    self.sent.push((self.now, send));
                    continue;
                }
                Next::At(then) => then,
                Next::Never => end + DELAY,
            };
            match self.under_way.first().copied() {
                Some(first) if first.0 <= then => {
                    self.under_way.remove(&first);
                    self.now = self.now.max(first.0);
                    self.schedule.answered((first.2, first.3), first.1, self.now);
                }
                _ => self.now = then.max(self.now),
            }
        }
        self.now = end;
    }

    fn outcome(&self, number: u32) -> Option<Outcome> {
        self.schedule.known()[&key(number)].outcome
    }

    fn mtu(&self, number: u32) -> Option<u32> {
        self.schedule.known()[&key(number)].mtu
    }

    /// The most probes in any second.
    fn peak(&self) -> usize {
        let second = Duration::from_secs(1);
        let within = |from: Instant| {
            let begin = self.sent.partition_point(|(at, _)| *at < from);
            let end = self.sent.partition_point(|(at, _)| *at < from + second);
            end - begin
        };
        self.sent.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_arrives_is_found_and_asked_again_after_a_while() {
    let mut world = World::new(&targets([1, 2]), |send| send.size <= 1400 || send.to == ip(1));
    assert_eq!(world.outcome(1), None);
    world.run(SECOND * 30);
    assert_eq!((world.outcome(1), world.mtu(1)), (Some(Outcome::Arrives), None));
    assert_eq!((world.outcome(2), world.mtu(2)), (Some(Outcome::ArrivesUpTo(1400)), Some(1400)));
    assert!(world.schedule.take_changed());
    let before = world.sent.len();
    world.run(SECOND * 5);
    assert_eq!(world.sent.len(), before);
    world.run(SECOND * 40);
    assert!(world.sent.len() > before && !world.schedule.take_changed());
    assert_eq!(world.mtu(2), Some(1400));
}

#[test]
fn a_narrow_path_is_found_within_seconds() {
    let mut world = World::new(&targets([1]), |send| send.size <= 1337);
    world.run(SECOND * 15);
    assert_eq!(world.outcome(1), Some(Outcome::ArrivesUpTo(1337)));
    let took = world.sent.last().unwrap().0 - world.start;
    assert!(took < SECOND * 12, "{took:?}");
}

#[test]
fn a_path_that_becomes_wider_is_found_again_and_one_that_becomes_narrower_too() {
    let carries = std::cell::Cell::new(1400);
    let mut world = World::new(&targets([1]), |send| send.size <= carries.get());
    world.run(SECOND * 30);
    for (now, expected) in [(1450, None), (1300, Some(1300)), (1420, Some(1420))] {
        carries.set(now);
        world.run(SECOND * 60);
        assert_eq!(world.mtu(1), expected);
    }
}

#[test]
fn a_node_that_was_away_is_asked_more_often_and_its_mtu_is_remembered() {
    let carries = std::cell::Cell::new(1400);
    let mut world = World::new(&targets([1]), |send| send.size <= carries.get());
    world.run(SECOND * 30);
    carries.set(0);
    world.run(SECOND * 360);
    assert_eq!(world.outcome(1), Some(Outcome::Nothing(Cause::Silent)));
    assert_eq!(world.mtu(1), Some(1400));
    carries.set(1400);
    world.run(SECOND * 330);
    assert_eq!(world.outcome(1), Some(Outcome::ArrivesUpTo(1400)));
    let first = world.sent.len();
    carries.set(0);
    world.schedule.hurry(|_, _| true, world.now);
    world.run(SECOND * 120);
    // rounds of 12 after 0, 10, 20, 40 and 40 seconds, each of which lasts some
    let more = world.sent.len() - first;
    assert!((36..=60).contains(&more), "{more}");
}

#[test]
fn few_are_asked_often_and_many_seldom() {
    for (ways, seconds) in [(0, 40), (2, 40), (200, 40), (500, 100), (1500, 300), (20_000, 300)] {
        assert_eq!(period(ways), SECOND * seconds, "{ways}");
    }
    // two hundred whose wires shrink at once: found in two minutes, and no more is sent than may be
    let carries = std::cell::Cell::new(1450);
    let mut world = World::new(&targets(1..=200), |send| send.size <= carries.get());
    world.run(SECOND * 60);
    let before = world.sent.len();
    world.run(SECOND * 400);
    let rate = (world.sent.len() - before) / 400;
    assert!((8..=12).contains(&rate), "{rate} a second");
    carries.set(1400);
    world.run(SECOND * 150);
    let found = (1..=200).filter(|number| world.mtu(*number) == Some(1400)).count();
    assert_eq!(found, 200);
    assert!(world.peak() <= 61, "{}", world.peak());
}

#[test]
fn the_cause_is_found_when_nothing_arrives() {
    let mut world = World::new(&targets([1, 2, 3, 4]), |send| match &*send.key.node {
        "n1" => send.checked,
        "n2" => {
            send.to == IpAddr::from([192, 0, 2, 2]) && send.from == IpAddr::from([192, 0, 2, 1])
        }
        "n3" => false,
        _ => true,
    });
    world.run(SECOND * 30);
    let outcomes = [1, 2, 3].map(|number| world.outcome(number).unwrap());
    let causes = [Cause::Checksum, Cause::Tunnel, Cause::Silent].map(Outcome::Nothing);
    assert_eq!(outcomes, causes);
    let tally = |since| world.schedule.tally("heddle.1", since);
    let all = Tally { arrives: 1, broken: 1, closed: 1, silent: 1, unknown: 0 };
    assert_eq!(tally(None), all);
    assert_eq!(tally(Some(world.now)), Tally { unknown: 4, ..Tally::default() });
    assert_eq!(world.schedule.tally("heddle.2", None), Tally::default());
}

#[test]
fn ten_thousand_nodes_are_probed_at_a_steady_pace_and_all_of_them() {
    let mut world =
        World::new(&targets(1..=10_000), |send| send.size <= 1400 || &*send.key.node != "n7");
    world.run(SECOND * 450);
    assert!(world.peak() <= 61, "{}", world.peak());
    let known = world.schedule.known();
    let unknown = known.values().filter(|known| known.outcome.is_none()).count();
    assert_eq!(unknown, 0);
    assert_eq!(world.outcome(7), Some(Outcome::ArrivesUpTo(1400)));
    // one that changes does not wait for all of the others
    let mut changed = targets(1..=10_000);
    changed.insert(key(9), of_size(9, 1350));
    world.schedule.set(&changed, world.now);
    let before = world.sent.len();
    world.run(SECOND);
    let probed = |(_, send): &(Instant, Send)| send.key == key(9) && send.size == 1350;
    assert!(world.sent[before..].iter().any(probed));
}

#[test]
fn only_what_was_asked_is_an_answer_and_only_from_whom_it_was_asked() {
    let now = Instant::now();
    let mut schedule = Schedule::new(now);
    schedule.set(&targets([1]), now);
    let Next::Send(send) = schedule.next(now) else { panic!("nothing is sent") };
    assert_eq!((send.size, send.port), (SMALL, 8474));
    for (from, nonce) in
        [((ip(2), 8474), send.nonce), ((ip(1), 8473), send.nonce), ((ip(1), 8474), send.nonce ^ 1)]
    {
        assert!(!schedule.answered(from, nonce, now), "{from:?}");
    }
    assert!(schedule.answered((ip(1), 8474), send.nonce, now));
    // the same again
    assert!(!schedule.answered((ip(1), 8474), send.nonce, now));
    // and one from a node that has gone
    let Next::Send(send) = schedule.next(now) else { panic!("nothing is sent") };
    schedule.set(&BTreeMap::new(), now);
    assert!(!schedule.answered((ip(1), 8474), send.nonce, now));
    assert_eq!((schedule.asked.len(), schedule.next(now)), (0, Next::Never));
}

#[test]
fn an_answer_that_is_late_still_counts() {
    let now = Instant::now();
    let mut schedule = Schedule::new(now);
    schedule.set(&targets([1]), now);
    let Next::Send(first) = schedule.next(now) else { panic!("nothing is sent") };
    let later = now + SECOND * 2;
    let Next::Send(second) = schedule.next(later) else { panic!("nothing is sent") };
    assert_eq!((second.size, second.nonce != first.nonce), (first.size, true));
    assert!(schedule.answered((ip(1), 8474), first.nonce, later));
    let Next::Send(third) = schedule.next(later) else { panic!("nothing is sent") };
    assert_eq!(third.size, 1450);
}

#[test]
fn a_target_that_is_set_again_as_it_was_is_left_alone() {
    let mut world = World::new(&targets([1]), |_| true);
    world.run(SECOND);
    let before = world.sent.len();
    world.schedule.set(&targets([1]), world.now);
    world.run(SECOND * 5);
    assert_eq!(world.sent.len(), before);
    // a larger MTU makes what was known worthless; a smaller one does not
    let with = |full| BTreeMap::from([(key(1), of_size(1, full))]);
    world.schedule.set(&with(1400), world.now);
    assert_eq!(world.outcome(1), Some(Outcome::Arrives));
    world.run(SECOND);
    world.schedule.set(&with(1450), world.now);
    assert_eq!(world.outcome(1), None);
    world.run(SECOND);
    assert_eq!(world.outcome(1), Some(Outcome::Arrives));
}

/// What a router says of the tunnel of every target.
fn said(mtu: u32) -> Said {
    let (local, remote) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
    BTreeMap::from([((local, remote), mtu)])
}

#[test]
fn what_a_router_says_is_found_in_about_a_second() {
    let carries = std::cell::Cell::new(1450);
    let mut world = World::new(&targets([1, 2]), |send| send.size <= carries.get());
    world.run(SECOND * 20);
    carries.set(1350);
    world.schedule.routers_say(&said(1400), world.now);
    world.run(SECOND);
    assert_eq!((world.mtu(1), world.mtu(2)), (Some(1350), Some(1350)));
    // it goes on saying so while others send on
    let before = world.sent.len();
    for _ in 0..100 {
        world.schedule.routers_say(&said(1400), world.now);
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.sent.len(), before);
    // another size, soon after: it waits for its turn
    carries.set(1300);
    world.schedule.routers_say(&said(1350), world.now);
    world.run(SECOND * 11);
    assert_eq!(world.mtu(1), Some(1300));
    // what is said of others is nobody's here
    let before = world.sent.len();
    let foreign = said(1000).into_iter().map(|((from, to), mtu)| ((to, from), mtu)).collect();
    world.schedule.routers_say(&foreign, world.now);
    world.run(SECOND);
    assert_eq!(world.sent.len(), before);
}

#[test]
fn who_lies_about_sizes_changes_nothing_and_costs_little() {
    let mut world = World::new(&targets([1]), |send| send.size <= 1450);
    world.run(SECOND * 5);
    let before = world.sent.len();
    for number in 0..600 {
        world.schedule.routers_say(&said(600 + number), world.now);
        world.run(Duration::from_millis(100));
        assert_eq!((world.outcome(1), world.mtu(1)), (Some(Outcome::Arrives), None));
    }
    // six or seven rounds in a minute
    let more = world.sent.len() - before;
    assert!((10..=40).contains(&more), "{more}");
}
