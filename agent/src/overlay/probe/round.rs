//! One round of probes of one node: a pure state machine, without clock and without sockets.
//!
//! A lost datagram is not a small MTU: a size is given up after several losses, and only if a small datagram arrives afterwards, so that
//! a node that goes away meanwhile is not taken for a narrow path.

use super::{Cause, Outcome};

/// How often a size is tried before it is given up.
pub const TRIES: u32 = 4;
/// The same where a router says that it is too large.
const TRIES_OF_TOLD: u32 = 2;
/// The size of small probes, as IP packets, in bytes.
pub const SMALL: u32 = 64;

/// By which way a probe travels, and who computes its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// As the pods' packets do: the checksum is left to the device.
    AsPods,
    /// The same way, with a checksum that is complete.
    Checked,
    /// Outside of the tunnel, from node to node.
    Outside,
}

/// What to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    /// How.
    pub flavour: Flavour,
    /// As an IP packet, in bytes.
    pub size: u32,
}

/// What is known of the path before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// What pods use, in bytes.
    pub full: u32,
    /// The search goes no further down.
    pub floor: u32,
    /// What arrived the last time, if that was less than full.
    pub before: Option<u32>,
    /// What a router says would fit. Anybody may have sent that, so it only says what to try first.
    pub told: Option<u32>,
}

impl Sizes {
    /// What to try first.
    fn first(self) -> Stage {
        let told = self.told.filter(|size| (self.floor.max(SMALL + 1)..self.full).contains(size));
        told.map_or(Stage::Full, Stage::Told)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Does anything arrive?
    Small,
    /// Does what a router says would fit?
    Told(u32),
    /// … and one byte more?
    AboveTold(u32),
    /// Does everything?
    Full,
    /// Does still what did the last time?
    Again(u32),
    /// … and one byte more?
    Above(u32),
    /// The least that a search is worth, below what does not arrive.
    Floor { high: u32 },
    /// `low` arrives and `high` does not.
    Search { low: u32, high: u32 },
    /// Nothing arrives: is it the checksum?
    Checked,
    /// One with a complete checksum arrived; was it luck?
    NotLuck,
    /// Nothing arrives: is the node there?
    Outside,
}

/// A round that is under way.
#[derive(Clone, Debug)]
pub struct Round {
    sizes: Sizes,
    tunnel: bool,
    stage: Stage,
    /// A small one is sent, to see whether the node is still there.
    control: bool,
    lost: u32,
}

impl Round {
    /// Of a node behind a tunnel, or not.
    pub fn new(sizes: Sizes, tunnel: bool) -> Self {
        Self { sizes, tunnel, stage: Stage::Small, control: false, lost: 0 }
    }

    /// What is to be sent, and sent again.
    pub fn next(&self) -> Try {
        let large = |size| Try { flavour: Flavour::AsPods, size };
        match self.stage {
            _ if self.control => large(SMALL),
            Stage::Small | Stage::NotLuck => large(SMALL),
            Stage::Full => large(self.sizes.full),
            Stage::Again(size) | Stage::Told(size) => large(size),
            Stage::Above(size) | Stage::AboveTold(size) => large(size + 1),
            Stage::Floor { .. } => large(self.sizes.floor),
            Stage::Search { low, high } => large(low.midpoint(high)),
            Stage::Checked => Try { flavour: Flavour::Checked, size: SMALL },
            Stage::Outside => Try { flavour: Flavour::Outside, size: SMALL },
        }
    }

    /// It arrived. The answer, if the round has come to its end.
    pub fn arrived(&mut self) -> Option<Outcome> {
        self.lost = 0;
        if std::mem::take(&mut self.control) {
            return self.too_large();
        }
        self.stage = match self.stage {
            Stage::Small | Stage::NotLuck if self.sizes.full > SMALL => self.sizes.first(),
            Stage::Told(size) => Stage::AboveTold(size),
            // it was not so
            Stage::AboveTold(_) => Stage::Full,
            Stage::Small | Stage::NotLuck | Stage::Full => return Some(Outcome::Arrives),
            Stage::Again(size) if size + 1 >= self.sizes.full => {
                return Some(Outcome::ArrivesUpTo(size));
            }
            Stage::Again(size) => Stage::Above(size),
            Stage::Above(size) => return self.search(size + 1, self.sizes.full),
            Stage::Floor { high } => return self.search(self.sizes.floor, high),
            Stage::Search { low, high } => return self.search(low.midpoint(high), high),
            Stage::Checked => Stage::NotLuck,
            Stage::Outside => return Some(Outcome::Nothing(Cause::Tunnel)),
        };
        None
    }

    /// No answer came in time.
    pub fn lost(&mut self) -> Option<Outcome> {
        self.lost += 1;
        let told = matches!(self.stage, Stage::Told(_) | Stage::AboveTold(_)) && !self.control;
        if self.lost < if told { TRIES_OF_TOLD } else { TRIES } {
            return None;
        }
        self.lost = 0;
        match self.stage {
            _ if self.control => {
                self.control = false;
                self.nothing()
            }
            Stage::Small => self.nothing(),
            Stage::Checked => {
                self.stage = Stage::Outside;
                None
            }
            Stage::NotLuck => Some(Outcome::Nothing(Cause::Checksum)),
            Stage::Outside => Some(Outcome::Nothing(Cause::Silent)),
            Stage::Told(_)
            | Stage::AboveTold(_)
            | Stage::Full
            | Stage::Again(_)
            | Stage::Above(_)
            | Stage::Floor { .. }
            | Stage::Search { .. } => {
                self.control = true;
                None
            }
        }
    }

    /// This host's own kernel says that it is too large.
    pub fn refused(&mut self) -> Option<Outcome> {
        if self.control || self.next().size <= SMALL {
            return self.lost();
        }
        self.lost = 0;
        self.too_large()
    }

    fn nothing(&mut self) -> Option<Outcome> {
        if !self.tunnel {
            return Some(Outcome::Nothing(Cause::Silent));
        }
        self.stage = Stage::Checked;
        None
    }

    fn too_large(&mut self) -> Option<Outcome> {
        let Sizes { full, before, .. } = self.sizes;
        match self.stage {
            Stage::Told(_) => self.stage = Stage::Full,
            Stage::Full => match before.filter(|size| *size > SMALL && *size < full) {
                Some(size) => self.stage = Stage::Again(size),
                None => return self.begin_search(full),
            },
            Stage::Again(size) => return self.begin_search(size),
            Stage::Above(size) | Stage::AboveTold(size) => {
                return Some(Outcome::ArrivesUpTo(size));
            }
            // below it IP itself is not promised (RFC 791, RFC 8200)
            Stage::Floor { .. } => return Some(Outcome::ArrivesUpTo(SMALL)),
            Stage::Search { low, high } => return self.search(low, low.midpoint(high)),
            // nothing small is ever too large
            Stage::Small | Stage::Checked | Stage::NotLuck | Stage::Outside => {}
        }
        None
    }

    fn begin_search(&mut self, high: u32) -> Option<Outcome> {
        if high <= self.sizes.floor {
            return self.search(SMALL, high);
        }
        self.stage = Stage::Floor { high };
        None
    }

    fn search(&mut self, low: u32, high: u32) -> Option<Outcome> {
        if high <= low + 1 {
            let is_full = low >= self.sizes.full;
            return Some(if is_full { Outcome::Arrives } else { Outcome::ArrivesUpTo(low) });
        }
        self.stage = Stage::Search { low, high };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Sizes = Sizes { full: 1450, floor: 1280, before: None, told: None };

    /// A path that carries so much; what it does with each probe, by number.
    fn walk(round: &mut Round, carries: impl Fn(usize, Try) -> bool) -> (Outcome, usize) {
        for sent in 0..1000 {
            let arrives = carries(sent, round.next());
            let outcome = if arrives { round.arrived() } else { round.lost() };
            if let Some(outcome) = outcome {
                return (outcome, sent + 1);
            }
        }
        panic!("no end: {round:?}");
    }

    fn found(sizes: Sizes, carries: u32) -> (Outcome, usize) {
        walk(&mut Round::new(sizes, true), |_, next| next.size <= carries)
    }

    #[test]
    fn all_sizes_are_found_exactly_with_few_probes() {
        assert_eq!(found(FULL, 1450), (Outcome::Arrives, 2));
        assert_eq!(found(FULL, 9000), (Outcome::Arrives, 2));
        for carries in 1280..1450 {
            let (outcome, sent) = found(FULL, carries);
            assert_eq!(outcome, Outcome::ArrivesUpTo(carries));
            assert!(sent <= 50, "{carries}: {sent}");
        }
        let jumbo = Sizes { full: 8950, floor: 576, ..FULL };
        for carries in [576, 577, 1450, 8948, 8949] {
            let (outcome, sent) = found(jumbo, carries);
            assert_eq!(outcome, Outcome::ArrivesUpTo(carries));
            assert!(sent <= 80, "{carries}: {sent}");
        }
        assert_eq!(found(FULL, 1279).0, Outcome::ArrivesUpTo(SMALL));
        assert_eq!(found(Sizes { full: 1280, ..FULL }, 1000).0, Outcome::ArrivesUpTo(1000));
        assert_eq!(found(Sizes { full: 60, ..FULL }, 64).0, Outcome::Arrives);
    }

    #[test]
    fn the_next_round_begins_at_what_was_found() {
        let before = |size| Sizes { before: Some(size), ..FULL };
        for (carries, expected) in [
            (1400, Outcome::ArrivesUpTo(1400)),
            (1450, Outcome::Arrives),
            (1420, Outcome::ArrivesUpTo(1420)),
            (1300, Outcome::ArrivesUpTo(1300)),
            (1401, Outcome::ArrivesUpTo(1401)),
        ] {
            assert_eq!(found(before(1400), carries).0, expected);
        }
        // small, full and control, again, one more and control
        assert_eq!(found(before(1400), 1400).1, 1 + 5 + 1 + 5);
        assert_eq!(found(before(1449), 1449), (Outcome::ArrivesUpTo(1449), 7));
        // what was found below the floor begins anew
        assert_eq!(found(before(SMALL), 1400).0, Outcome::ArrivesUpTo(1400));
        assert_eq!(found(before(2000), 1400).0, Outcome::ArrivesUpTo(1400));
    }

    #[test]
    fn what_a_router_says_is_tried_first_and_believed_only_if_it_is_so() {
        let told = |size| Sizes { told: Some(size), ..FULL };
        // small, that, one more twice, and control
        assert_eq!(found(told(1400), 1400), (Outcome::ArrivesUpTo(1400), 5));
        assert_eq!(found(Sizes { before: Some(1420), ..told(1400) }, 1400).1, 5);
        for (said, carries, expected) in [
            (1300, 1450, Outcome::Arrives),
            (1300, 1400, Outcome::ArrivesUpTo(1400)),
            (1449, 1450, Outcome::Arrives),
            // it is still less
            (1400, 1300, Outcome::ArrivesUpTo(1300)),
            // nonsense
            (0, 1400, Outcome::ArrivesUpTo(1400)),
            (SMALL, 1400, Outcome::ArrivesUpTo(1400)),
            (1450, 1400, Outcome::ArrivesUpTo(1400)),
            (u32::MAX, 1450, Outcome::Arrives),
        ] {
            assert_eq!(found(told(said), carries).0, expected, "{said} {carries}");
        }
        // a node that goes away meanwhile
        for gone_after in 0..5 {
            let carries = |sent: usize, next: Try| sent < gone_after && next.size <= 1400;
            let (outcome, _) = walk(&mut Round::new(told(1400), true), carries);
            assert_eq!(outcome, Outcome::Nothing(Cause::Silent), "{gone_after}");
        }
    }

    #[test]
    fn lost_datagrams_are_not_a_small_mtu() {
        // every third arrives
        let lossy = |sent: usize, _: Try| sent % 3 == 2;
        assert_eq!(walk(&mut Round::new(FULL, true), lossy).0, Outcome::Arrives);
        let lossy = |sent: usize, next: Try| sent % 3 == 2 && next.size <= 1400;
        assert_eq!(walk(&mut Round::new(FULL, true), lossy).0, Outcome::ArrivesUpTo(1400));
    }

    #[test]
    fn a_node_that_goes_away_meanwhile_is_not_a_narrow_path() {
        for gone_after in 0..20 {
            let carries = |sent: usize, next: Try| sent < gone_after && next.size <= 1400;
            let (outcome, _) = walk(&mut Round::new(FULL, true), carries);
            let silent = Outcome::Nothing(Cause::Silent);
            assert!(outcome == silent, "{gone_after}: {outcome:?}");
        }
    }

    #[test]
    fn what_is_wrong_when_nothing_arrives() {
        let by =
            |flavours: &'static [Flavour]| move |_, next: Try| flavours.contains(&next.flavour);
        for (flavours, expected) in [
            (&[][..], Cause::Silent),
            (&[Flavour::Outside], Cause::Tunnel),
            (&[Flavour::Checked, Flavour::Outside], Cause::Checksum),
        ] {
            let (outcome, sent) = walk(&mut Round::new(FULL, true), by(flavours));
            assert_eq!(outcome, Outcome::Nothing(expected));
            assert!(sent <= 12, "{sent}");
        }
        // without a tunnel there is no other way
        let direct = walk(&mut Round::new(FULL, false), by(&[Flavour::Outside]));
        assert_eq!(direct, (Outcome::Nothing(Cause::Silent), 4));
    }

    #[test]
    fn bad_luck_is_not_a_broken_checksum() {
        // the first four are lost, whatever they are
        let (outcome, _) = walk(&mut Round::new(FULL, true), |sent, _| sent >= 4);
        assert_eq!(outcome, Outcome::Arrives);
    }

    #[test]
    fn a_size_that_this_host_refuses_is_given_up_at_once() {
        let mut round = Round::new(FULL, true);
        assert_eq!(round.arrived(), None);
        let mut sent = 1;
        let outcome = loop {
            sent += 1;
            let outcome = match round.next().size {
                size if size > 1400 => round.refused(),
                _ => round.arrived(),
            };
            if let Some(outcome) = outcome {
                break outcome;
            }
        };
        assert_eq!(outcome, Outcome::ArrivesUpTo(1400));
        assert!(sent <= 12, "{sent}");
        // a small one that is refused is only lost
        let mut round = Round::new(FULL, false);
        let outcomes: Vec<_> = (0..4).map(|_| round.refused()).collect();
        assert_eq!(outcomes[3], Some(Outcome::Nothing(Cause::Silent)));
        assert_eq!(outcomes[..3], [None; 3]);
    }
}
