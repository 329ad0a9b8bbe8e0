//! Who changed rules.

use super::*;

/// A change by a thread of that name.
fn change_as(ns: &TestNetns, thread: &str, batch: &Batch) {
    let mut nft = open(ns);
    std::thread::scope(|scope| {
        let change = || nft.commit(batch).unwrap();
        std::thread::Builder::new().name(thread.into()).spawn_scoped(scope, change).unwrap();
    });
}

#[test]
fn others_are_told_from_us() {
    let ns = TestNetns::new("nftmon");
    let mut monitor = Monitor::open_in(ns.ns()).unwrap();
    change_as(&ns, "other", &with_chain(Family::Inet));
    assert!(!monitor.drain(&["ours"]).unwrap(), "it does not listen yet");

    monitor.listen(true).unwrap();
    change_as(&ns, "ours", &with_chain(Family::Ip));
    assert!(!monitor.drain(&["ours"]).unwrap());
    change_as(&ns, "other", &with_chain(Family::Ip6));
    assert!(monitor.drain(&["ours"]).unwrap());
    assert!(!monitor.drain(&["ours"]).unwrap(), "all was read");
    ns.cmd(&["nft", "flush", "ruleset"]);
    assert!(monitor.drain(&["ours"]).unwrap());

    monitor.listen(false).unwrap();
    change_as(&ns, "other", &with_chain(Family::Ip));
    assert!(!monitor.drain(&["ours"]).unwrap());
}

#[test]
fn what_was_lost_counts_as_a_change() {
    let ns = TestNetns::new("nftmon");
    let mut monitor = Monitor::open_in(ns.ns()).unwrap();
    monitor.listen(true).unwrap();
    let mut batch = with_chain(Family::Inet);
    for number in 0..5000_u32 {
        batch.add_rule(INET, "c", &INET.rule().saddr_eq(std::net::IpAddr::V4(number.into())));
    }
    change_as(&ns, "ours", &batch);
    assert!(monitor.drain(&["ours"]).unwrap());
    assert!(!monitor.drain(&["ours"]).unwrap());
}
