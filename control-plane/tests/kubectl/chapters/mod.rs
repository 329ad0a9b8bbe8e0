//! The chapters of the day, each on a server of its own.

mod asking;
mod changing;
mod creating;
mod deleting;
mod nodes;
mod reading;
mod rollouts;
mod services;
mod wrong;

use crate::day::Day;
use crate::server::Store;

macro_rules! chapters {
    ($($chapter:ident),*) => {
        mod on_redb {
            $( #[test] fn $chapter() { super::play(super::Store::Redb, stringify!($chapter), super::$chapter::play); } )*
        }

        mod on_etcd {
            $( #[test] fn $chapter() { super::play(super::Store::Etcd, stringify!($chapter), super::$chapter::play); } )*
        }
    };
}

chapters!(asking, changing, creating, deleting, nodes, reading, rollouts, services, wrong);

fn play(store: Store, chapter: &str, script: fn(&mut Day)) {
    let mut day = Day::begin(store);
    script(&mut day);
    day.end(chapter);
}
