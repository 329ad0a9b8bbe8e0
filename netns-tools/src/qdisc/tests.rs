//! Compared with what `tc -j` says, and with what `tc` itself makes.

use serde_json::Value;

use super::*;
use crate::Veth;
use crate::link::ifb::Ifb;
use crate::testing::TestNetns;

/// A namespace with a veth pair `a`/`b` and an ifb `f`; and a socket; and the indices of `a` and `f`.
fn namespace() -> (TestNetns, Netlink, u32, u32) {
    let ns = TestNetns::new("qdisc");
    let mut netlink = ns.netlink();
    netlink.add_veth(&Veth::new("a", "b")).unwrap();
    netlink.add_ifb(&Ifb { name: "f", mtu: 1400, queue_length: 0 }).unwrap();
    let (a, f) = (ns.link("a").index, ns.link("f").index);
    (ns, netlink, a, f)
}

fn shown(ns: &TestNetns, dev: &str) -> Vec<Value> {
    ns.json(&["tc", "-j", "qdisc", "show", "dev", dev]).as_array().unwrap().clone()
}

fn root_tbf(netlink: &mut Netlink, index: u32) -> Option<SeenTbf> {
    netlink.qdiscs(index).unwrap().into_iter().find(|qdisc| qdisc.root)?.tbf
}

#[test]
fn a_token_bucket_filter_is_the_one_that_tc_makes() {
    let (ns, mut netlink, a, f) = namespace();
    let clock = Clock::read().unwrap();
    // Bytes per second, bytes, microseconds, and the same as tc takes it.
    let cases: [(u64, u32, u32, [&str; 3]); 5] = [
        (12_500_000, 102_400, 25_000, ["100mbit", "100kb", "25ms"]),
        (125_000, 1600, 25_000, ["1mbit", "1600", "25ms"]),
        (1_234_567, 98_765, 25_000, ["1234567bps", "98765", "25ms"]),
        (1, 2000, 25_000, ["8bit", "2000", "25ms"]),
        (12_500_000_000, 1_000_000, 400, ["100gbit", "1000000", "400us"]),
    ];
    for (rate, burst, latency, [r, b, l]) in cases {
        let tbf = Tbf::new(clock, rate, burst, latency);
        netlink.add_tbf(a, &tbf).unwrap();
        let words = ["tc", "qdisc", "add", "dev", "f", "root", "handle", "1:", "tbf"];
        ns.cmd(&[&words[..], &["rate", r, "burst", b, "latency", l]].concat());
        let (ours, theirs) =
            (root_tbf(&mut netlink, a).unwrap(), root_tbf(&mut netlink, f).unwrap());
        assert_eq!(ours, theirs, "{r} {b} {l}");
        assert!(ours.is(&tbf), "{ours:?} {tbf:?}");
        assert_eq!(shown(&ns, "a")[0]["options"], shown(&ns, "f")[0]["options"], "{r} {b} {l}");
        for index in [a, f] {
            netlink.delete_root_qdisc(index).unwrap();
        }
    }
    assert_eq!(root_tbf(&mut netlink, a), None);
}

#[test]
fn what_is_there_is_not_replaced() {
    let (ns, mut netlink, a, _) = namespace();
    let clock = Clock::read().unwrap();
    netlink.add_tbf(a, &Tbf::new(clock, 1_000_000, 10_000, 25_000)).unwrap();
    let other = Tbf::new(clock, 2_000_000, 10_000, 25_000);
    assert!(netlink.add_tbf(a, &other).unwrap_err().is_exists());
    assert!(!root_tbf(&mut netlink, a).unwrap().is(&other));
    let text = netlink.add_tbf(4711, &other).unwrap_err().to_string();
    assert!(text.starts_with("cannot limit the rate of link 4711: No such device"), "{text}");
    assert_eq!(shown(&ns, "a")[0]["handle"], "1:");
}

#[test]
fn everything_that_comes_in_is_redirected() {
    let (ns, mut netlink, a, f) = namespace();
    assert_eq!(netlink.ingress_redirects(a).unwrap(), [0; 0], "no hook");
    netlink.add_ingress(a).unwrap();
    assert!(netlink.add_ingress(a).unwrap_err().is_exists());
    assert_eq!(netlink.ingress_redirects(a).unwrap(), [0; 0]);
    assert!(!netlink.has_ingress_filters(a).unwrap());
    netlink.redirect_ingress(a, f).unwrap();
    assert!(netlink.has_ingress_filters(a).unwrap());
    assert_eq!(netlink.ingress_redirects(a).unwrap(), [f]);
    let hook = netlink.qdiscs(a).unwrap().into_iter().find(|qdisc| qdisc.kind == "ingress");
    assert_eq!(hook.map(|hook| (hook.handle, hook.root)), Some((0xffff_0000, false)));
    let text = ns.cmd(&["tc", "filter", "show", "dev", "a", "parent", "ffff:"]);
    for words in [
        "protocol all pref 1 u32",
        "flowid 1:1",
        "match 00000000/00000000 at 0",
        "Egress Redirect to device f) stolen",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    netlink.delete_ingress(a).unwrap();
    assert_eq!(netlink.ingress_redirects(a).unwrap(), [0; 0]);
    assert!(netlink.delete_ingress(a).is_err());
    assert!(!netlink.qdiscs(a).unwrap().iter().any(|qdisc| qdisc.kind == "ingress"));
}

#[test]
fn a_filter_of_somebody_else_s_is_not_taken_for_a_redirection() {
    let (ns, mut netlink, a, _) = namespace();
    netlink.add_ingress(a).unwrap();
    let some = "tc filter add dev a parent ffff: protocol ip u32 match ip dst 10.0.0.1/32 action mirred egress redirect dev f";
    let mirror = "tc filter add dev a parent ffff: protocol all u32 match u32 0 0 action mirred egress mirror dev f";
    for line in [some, mirror] {
        ns.cmd(&line.split(' ').collect::<Vec<_>>());
    }
    assert!(netlink.has_ingress_filters(a).unwrap());
    assert_eq!(netlink.ingress_redirects(a).unwrap(), [0; 0]);
}

#[test]
fn an_ifb_and_its_alias() {
    let (ns, mut netlink, _, f) = namespace();
    let seen = netlink.ifb("f").unwrap().unwrap();
    assert_eq!((seen.mtu, seen.txqlen, seen.up), (1400, 0, false));
    assert_eq!((seen.alias, seen.kind.as_deref()), (None, Some("ifb")));
    netlink.set_alias(f, "whose it is").unwrap();
    netlink.set_up(f).unwrap();
    let listed = netlink.ifbs().unwrap();
    assert_eq!(listed.len(), 1, "the veth pair is no ifb: {listed:?}");
    assert_eq!((listed[0].alias.as_deref(), listed[0].up), (Some("whose it is"), true));
    assert_eq!(ns.json(&["ip", "-j", "link", "show", "f"])[0]["ifalias"], "whose it is");
    assert_eq!(netlink.ifb("a").unwrap(), None, "another kind");
    assert_eq!(netlink.ifb("nosuch").unwrap(), None);
    let again = netlink.add_ifb(&Ifb { name: "f", mtu: 1400, queue_length: 0 }).unwrap_err();
    assert!(again.is_exists());
}

#[test]
fn refuses_half_a_message() {
    for length in 0..HEADER_LEN {
        assert!(Qdisc::read(&vec![0; length]).is_err(), "{length}");
    }
    assert_eq!(redirects(&attribute(TCA_OPTIONS, &attribute(U32_SEL, &[1, 0, 1]))), None);
    assert_eq!(SeenTbf::read(&attribute(TBF_PARMS, &[0; 20])), None);
}
