//! Notifications of one's own changes that do not say whose they are: forwarding entries, and neighbours that are deleted.
//!
//! Taken for somebody else's each would lead to a comparison of everything. So what is about to be written is noted here, and the first
//! notification that says just that is the echo of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netns_tools::monitor::Entry;
use netns_tools::netlink::batch::{Change, Object, Verb};

/// So many are waited for. After more, as at a start, everything is to be compared anyway.
const MOST: usize = 512;

/// What was written, and not told of yet.
#[derive(Clone, Debug, Default)]
pub struct Echoes(Arc<Mutex<VecDeque<Entry>>>);

impl Echoes {
    /// These changes are about to be written.
    pub(super) fn expect(&self, changes: &[Change]) {
        let mut waiting = self.waiting();
        for entry in changes.iter().filter_map(entry) {
            if waiting.len() == MOST {
                waiting.pop_front();
            }
            waiting.push_back(entry);
        }
    }

    /// Everything was compared: what is told from here on is somebody else's, or compared once too often.
    pub(super) fn forget(&self) {
        self.waiting().clear();
    }

    /// Whether that is the echo of a change, which it is once.
    pub fn take(&self, told: &Entry) -> bool {
        let mut waiting = self.waiting();
        let found = waiting.iter().position(|entry| entry == told);
        found.and_then(|at| waiting.remove(at)).is_some()
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What will be told of a change without telling whose it is.
fn entry(change: &Change) -> Option<Entry> {
    let gone = change.verb == Verb::Delete;
    match &change.object {
        Object::Fdb(entry) => {
            let remote = entry.remote.filter(|_| !gone);
            Some(Entry::Fdb { link: entry.link, mac: entry.mac, remote })
        }
        Object::Neighbour(entry) if gone => {
            Some(Entry::Neighbour { link: entry.link, address: entry.address, mac: None })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use netns_tools::fdb::FdbEntry;
    use netns_tools::neighbour::PermanentNeighbour;
    use netns_tools::{MacAddr, Route};

    use super::*;

    fn fdb(number: u8) -> FdbEntry {
        FdbEntry::new(7, MacAddr([2, 0, 0, 0, 0, number]), IpAddr::from([192, 0, 2, number]))
    }

    fn told(number: u8, there: bool) -> Entry {
        let FdbEntry { link, mac, remote, .. } = fdb(number);
        Entry::Fdb { link, mac, remote: remote.filter(|_| there) }
    }

    #[test]
    fn each_change_has_one_echo() {
        let echoes = Echoes::default();
        let put = |number| Change::replace(Object::Fdb(fdb(number)));
        echoes.expect(&[put(1), put(2), put(1), Change::delete(Object::Fdb(fdb(3)))]);
        let heard = [(1, true), (2, true), (1, true), (1, true), (3, true), (3, false), (3, false)];
        let taken = heard.map(|(number, there)| echoes.take(&told(number, there)));
        assert_eq!(taken, [true, true, true, false, false, true, false]);
        echoes.expect(&[put(1)]);
        echoes.forget();
        assert!(!echoes.take(&told(1, true)));
    }

    #[test]
    fn only_what_says_not_whose_it_is() {
        let (echoes, address) = (Echoes::default(), IpAddr::from([10, 9, 0, 1]));
        let neighbour = PermanentNeighbour { link: 7, address, mac: MacAddr([2, 0, 0, 0, 0, 1]) };
        let route = Route::default();
        echoes.expect(&[
            Change::replace(Object::Neighbour(neighbour)),
            Change::delete(Object::Route(route)),
        ]);
        assert!(echoes.waiting().is_empty());
        echoes.expect(&[Change::delete(Object::Neighbour(neighbour))]);
        assert!(echoes.take(&Entry::Neighbour { link: 7, address, mac: None }));
    }

    #[test]
    fn of_very_many_the_last_are_known() {
        let echoes = Echoes::default();
        let all = (0..=u8::MAX).cycle().take(MOST + 1);
        let all: Vec<_> = all.map(|number| Change::add(Object::Fdb(fdb(number)))).collect();
        echoes.expect(&all);
        assert_eq!(echoes.waiting().len(), MOST);
        assert!(echoes.take(&told(1, true)));
    }
}
