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
        $( #[test] fn $chapter() { play(stringify!($chapter), $chapter::play); } )*
    };
}

chapters!(asking, changing, creating, deleting, nodes, reading, rollouts, services, wrong);

/// Plays a chapter on each store at the same time: most of it is waiting for kubectl.
fn play(chapter: &str, script: fn(&mut Day)) {
    let on = |store| {
        move || {
            let mut day = Day::begin(store);
            script(&mut day);
            day.end()
        }
    };
    let (redb, etcd) = std::thread::scope(|scope| {
        let etcd = scope.spawn(on(Store::Etcd));
        (on(Store::Redb)(), etcd.join().expect("the chapter ends on etcd"))
    });
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(chapter, redb));
    settings.bind(|| insta::assert_snapshot!(chapter, etcd));
}
