//! The tracer itself, against rules whose meaning is known.

use netns_tools::iptables::{Family, Ruleset};
use netns_tools::nftables::{
    Chain, ChainKind, Element, Family as Packets, Field, Hook, Key, NatFlags, Reg, Rule, Set, Type,
    Value, Verdict as Then, priority,
};

use super::iptables::IptablesRules;
use super::nftables::{NftChain, NftRuleset, NftSet};
use super::*;
use crate::proxy::model::Protocol;

fn host() -> Host {
    let interface = |name: &str, net: &str| Interface {
        name: name.to_owned(),
        addresses: vec![net.parse().unwrap()],
    };
    Host {
        interfaces: vec![interface("eth0", "10.0.0.1/24"), interface("cni0", "10.1.0.1/24")],
        routes: vec![("0.0.0.0/0".parse().unwrap(), "eth0".to_owned())],
    }
}

fn packet(arrival: Arrival, source: &str, destination: &str, port: u16) -> Packet {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Packet { arrival, source, destination, protocol: Protocol::Tcp, port }
}

fn from_pod(destination: &str, port: u16) -> Packet {
    packet(Arrival::by_port("cni0", "veth0"), "10.1.0.5", destination, port)
}

fn from_here(destination: &str, port: u16) -> Packet {
    let source = host().source_for(destination.parse().unwrap()).unwrap().to_string();
    packet(Arrival::Here, &source, destination, port)
}

fn verdict(rules: &dyn Hooks, packet: &Packet) -> String {
    let paths = trace(rules, &host(), packet, &Memory::default()).unwrap();
    paths.into_iter().collect::<Verdict>().to_string()
}

/// Rules of tables, one to a line: `<table> <chain> <rule>`.
fn iptables(lines: &str) -> Result<IptablesRules> {
    let mut ruleset = Ruleset::default();
    for line in lines.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (table, chain) = (words.next().unwrap(), words.next().unwrap());
        let table = ruleset.tables.entry(table).or_default();
        let policy = (chain == chain.to_uppercase()).then(|| "ACCEPT".to_owned());
        let chain = table.chains.entry(chain).or_default();
        chain.policy = policy;
        chain.rules.push(words.collect());
    }
    IptablesRules::new(&ruleset, Family::V4)
}

#[test]
fn matches_and_targets_of_iptables() {
    let cases = [
        (
            "nat PREROUTING -d 10.9.0.1/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.1.0.9:8080",
            "100.0 % 10.1.0.9:8080 from 10.1.0.5",
        ),
        (
            "nat PREROUTING -p udp -j DNAT --to-destination 10.1.0.9:8080",
            "100.0 % untouched from 10.1.0.5",
        ),
        (
            "nat PREROUTING ! -s 10.1.0.0/16 -j DNAT --to-destination 10.1.0.9",
            "100.0 % untouched from 10.1.0.5",
        ),
        (
            "nat PREROUTING -p tcp -j DNAT --to-destination 10.1.0.9",
            "100.0 % 10.1.0.9:80 from 10.1.0.5",
        ),
        // to a host of its own it goes by INPUT, and nothing is masqueraded
        (
            "nat PREROUTING -j DNAT --to-destination 10.0.0.1\nnat POSTROUTING -j MASQUERADE\nfilter INPUT -p tcp --dport 80 -j DROP",
            "100.0 % dropped",
        ),
        ("nat POSTROUTING -o eth+ -j MASQUERADE --random-fully", "100.0 % untouched from 10.0.0.1"),
        ("nat POSTROUTING -i cni0 -j MASQUERADE", "100.0 % untouched from 10.0.0.1"),
        (
            "filter FORWARD -m physdev --physdev-in veth0 -j REJECT --reject-with icmp-port-unreachable",
            "100.0 % rejected",
        ),
        (
            "mangle PREROUTING -j MARK --set-xmark 0x6/0xf\nfilter FORWARD -m mark --mark 0x4/0x4 -j DROP",
            "100.0 % dropped",
        ),
        (
            "mangle PREROUTING -j MARK --set-xmark 0x6/0xf\nmangle FORWARD -j MARK --set-xmark 0x4/0x0\nfilter FORWARD -m mark --mark 0x4/0x4 -j DROP",
            "100.0 % untouched from 10.1.0.5",
        ),
        (
            "nat PREROUTING -j DNAT --to-destination 10.1.0.9\nfilter FORWARD -m conntrack --ctstate DNAT -j DROP",
            "100.0 % dropped",
        ),
        ("filter FORWARD -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP", "100.0 % dropped"),
        ("filter FORWARD -m addrtype --dst-type LOCAL -j DROP", "100.0 % untouched from 10.1.0.5"),
        (
            "filter FORWARD -j a\nfilter FORWARD -j DROP\nfilter a -j RETURN\nfilter a -j ACCEPT",
            "100.0 % dropped",
        ),
        (
            "filter FORWARD -g a\nfilter FORWARD -j DROP\nfilter a -p udp -j DROP",
            "100.0 % untouched from 10.1.0.5",
        ),
        (
            "nat PREROUTING -m statistic --mode random --probability 0.25 -j DNAT --to-destination 10.1.0.9\nnat PREROUTING -m statistic --mode random --probability 0.50 -j DNAT --to-destination 10.1.0.8",
            "37.5 % 10.1.0.8:80 from 10.1.0.5, 25.0 % 10.1.0.9:80 from 10.1.0.5, 37.5 % untouched from 10.1.0.5",
        ),
    ];
    for (rules, expected) in cases {
        assert_eq!(
            verdict(&iptables(rules).unwrap(), &from_pod("10.9.0.1", 80)),
            expected,
            "{rules}"
        );
    }
}

/// A packet of this host to itself comes in by the loopback interface, and is not translated a second time.
#[test]
fn from_this_host_to_itself() {
    let rules = "nat OUTPUT -d 10.9.0.1/32 -j DNAT --to-destination 10.0.0.1\n\
        nat PREROUTING -j DNAT --to-destination 10.1.0.7\n\
        nat POSTROUTING -o lo -j MASQUERADE\n\
        filter INPUT -i lo -p tcp --dport 22 -j REJECT";
    let rules = iptables(rules).unwrap();
    assert_eq!(verdict(&rules, &from_here("10.9.0.1", 80)), "100.0 % 10.0.0.1:80 from 10.0.0.1");
    assert_eq!(verdict(&rules, &from_here("10.1.0.1", 80)), "100.0 % untouched from 10.0.0.1");
    assert_eq!(verdict(&rules, &from_here("127.0.0.1", 22)), "100.0 % rejected");
}

#[test]
fn what_is_not_understood_is_an_error() {
    let cases = [
        ("filter FORWARD -m bpf --bytecode 0 -j DROP", "-m bpf is not understood"),
        ("filter FORWARD -p tcp --sport 1 -j DROP", "--sport is not understood"),
        (
            "filter FORWARD -m conntrack --ctstate UNTRACKED -j DROP",
            "--ctstate UNTRACKED is not understood",
        ),
        (
            "filter FORWARD -m addrtype --dst-type BROADCAST -j DROP",
            "--dst-type BROADCAST is not understood",
        ),
        ("filter FORWARD -m statistic --mode nth --every 2 -j DROP", "--mode nth"),
        ("filter FORWARD -s fd00::/8 -j DROP", "-s fd00::/8 is of the other family"),
        ("filter FORWARD -j NFQUEUE", "target NFQUEUE is not understood"),
        ("filter FORWARD -m recent --update --name x -j DROP", "-m recent"),
        ("filter FORWARD -d", "-d has no value"),
    ];
    for (rule, reason) in cases {
        let error = iptables(rule).unwrap_err().to_string();
        assert!(error.contains(reason), "{rule}: {error}");
    }
    let missing = iptables("filter FORWARD -j nowhere").unwrap();
    let error =
        trace(&missing, &host(), &from_pod("10.9.0.1", 80), &Memory::default()).unwrap_err();
    assert_eq!(error.to_string(), "filter nowhere: there is no such chain");
    let circle = iptables("filter FORWARD -j a\nfilter a -j a").unwrap();
    let error = trace(&circle, &host(), &from_pod("10.9.0.1", 80), &Memory::default()).unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
}

const HOOKS: [(&str, Hook, ChainKind, i32); 4] = [
    ("prerouting", Hook::Prerouting, ChainKind::Nat, priority::DSTNAT),
    ("early", Hook::Prerouting, ChainKind::Filter, priority::DSTNAT - 10),
    ("forward", Hook::Forward, ChainKind::Filter, priority::FILTER),
    ("postrouting", Hook::Postrouting, ChainKind::Nat, priority::SRCNAT),
];

fn rule() -> Rule {
    Rule::new(Packets::Ip)
}

/// Base chains by their names in [`HOOKS`], others by any other.
fn nftables(rules: &[(&str, Rule)], sets: Vec<(&str, NftSet)>) -> NftRuleset {
    let mut ruleset = NftRuleset::default();
    for (chain, rule) in rules {
        let known = HOOKS.iter().find(|(name, ..)| name == chain);
        let base =
            known.and_then(|(name, hook, kind, at)| Chain::base(name, *kind, *hook, *at).base);
        let chain = ruleset
            .chains
            .entry((*chain).to_owned())
            .or_insert(NftChain { base, rules: Vec::new() });
        chain.rules.push(rule.expressions().to_vec());
    }
    ruleset.sets = sets.into_iter().map(|(name, set)| (name.to_owned(), set)).collect();
    ruleset
}

fn address(text: &str) -> std::net::Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn expressions_of_nftables() {
    let to = |ip: &str| rule().dnat(ip.parse().unwrap(), Some(8080));
    let net = |text: &str| text.parse::<ipnetwork::IpNetwork>().unwrap();
    let cases = [
        (vec![("prerouting", to("10.1.0.9"))], "100.0 % 10.1.0.9:8080 from 10.1.0.5"),
        // the earlier chain sees the packet first
        (
            vec![
                ("prerouting", to("10.1.0.9")),
                ("early", rule().daddr_eq(net("10.9.0.0/16")).drop()),
            ],
            "100.0 % dropped",
        ),
        (
            vec![
                ("prerouting", to("10.1.0.9")),
                ("forward", rule().daddr_eq(net("10.9.0.0/16")).drop()),
            ],
            "100.0 % 10.1.0.9:8080 from 10.1.0.5",
        ),
        (
            vec![
                ("early", rule().set_mark(0x4000, 0x4000)),
                (
                    "postrouting",
                    rule().mark_eq(0x4000, 0x4000).masquerade_with(NatFlags::FULLY_RANDOM),
                ),
            ],
            "100.0 % untouched from 10.0.0.1",
        ),
        (
            vec![
                ("forward", rule().iifname_ne("cni0").drop()),
                ("forward", rule().daddr_is_local().drop()),
            ],
            "100.0 % untouched from 10.1.0.5",
        ),
        (
            vec![
                ("forward", rule().jump("a")),
                ("forward", rule().drop()),
                ("a", rule().goto("b")),
                ("a", rule().accept()),
                ("b", rule().return_()),
            ],
            "100.0 % dropped",
        ),
        (
            vec![("forward", rule().reject(netns_tools::nftables::Reject::PortUnreachable))],
            "100.0 % rejected",
        ),
    ];
    for (rules, expected) in cases {
        assert_eq!(
            verdict(&nftables(&rules, Vec::new()), &from_pod("10.9.0.1", 80)),
            expected,
            "{rules:?}"
        );
    }
}

#[test]
fn sets_and_maps_of_nftables() {
    const SERVICE: &[Type] = &[Type::Ipv4Addr, Type::InetProto, Type::InetService];
    const TARGET: &[Type] = &[Type::Ipv4Addr, Type::InetService];
    let services = NftSet::new(
        &Set::verdict_map("services", SERVICE),
        [Element::with_verdict(
            Key::new(address("10.9.0.1")).and(6u8).and(80u16),
            Then::Goto("choose".into()),
        )],
    );
    let backend = |number, ip: &str| {
        Element::with_value(Value::host(number), Key::new(address(ip)).and(8080u16))
    };
    let backends = NftSet::new(
        &Set::map("backends", &[Type::Mark], TARGET),
        [backend(0, "10.1.0.8"), backend(1, "10.1.0.9")],
    );
    let ranges = NftSet::new(
        &Set { intervals: true, ..Set::new("ranges", &[Type::Ipv4Addr]) },
        [Element::range(address("10.2.0.0"), address("10.2.255.255"))],
    );
    let rules = [
        ("prerouting", rule().in_set(&[Field::IpDaddr], "ranges").drop()),
        (
            "prerouting",
            rule().verdict_map(&[Field::IpDaddr, Field::L4Proto, Field::Dport], "services"),
        ),
        (
            "choose",
            rule().transport(netns_tools::nftables::Transport::Tcp).dnat_map(
                Packets::Ip,
                &[Field::Random(3)],
                "backends",
                true,
            ),
        ),
    ];
    let sets = vec![("services", services), ("backends", backends), ("ranges", ranges)];
    let rules = nftables(&rules, sets);
    let third = "33.3 % 10.1.0.8:8080 from 10.1.0.5, 33.3 % 10.1.0.9:8080 from 10.1.0.5, 33.3 % untouched from 10.1.0.5";
    assert_eq!(verdict(&rules, &from_pod("10.9.0.1", 80)), third);
    assert_eq!(verdict(&rules, &from_pod("10.9.0.1", 81)), "100.0 % untouched from 10.1.0.5");
    assert_eq!(verdict(&rules, &from_pod("10.2.3.4", 81)), "100.0 % dropped");
    assert_eq!(verdict(&rules, &from_pod("10.3.0.0", 81)), "100.0 % untouched from 10.1.0.5");
    assert_eq!(rules.graph().mistakes(&|_| false), Vec::<String>::new());
}

#[test]
fn what_the_kernel_would_refuse_is_an_error() {
    use netns_tools::nftables::{Expr, Op};
    let unread = Expr::Cmp { sreg: Reg::word(5), op: Op::EQ, value: Value::host(1) };
    let unknown = Expr::Other { name: "quota".into(), data: Box::default() };
    let cases = [
        (rule().expr(unread), "were not written"),
        (rule().expr(unknown), "quota"),
        (rule().in_set(&[Field::IpDaddr], "none"), "there is no set none"),
        (rule().load(&[Field::Sport]), "are not known"),
        (rule().jump("nowhere"), "there is no such chain"),
    ];
    for (rule, reason) in cases {
        let rules = nftables(&[("forward", rule)], Vec::new());
        let error =
            trace(&rules, &host(), &from_pod("10.9.0.1", 80), &Memory::default()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn memory_ends_with_its_time() {
    use std::time::Duration;
    let seconds = Duration::from_secs;
    let mut memory = Memory::default();
    memory.note("a", &[1], &[7], Some(seconds(10)));
    memory.note("b", &[1], &[], None);
    let memory = memory.after(seconds(9));
    assert_eq!(memory.get("a", &[1]).map(|seen| seen.data.clone()), Some(vec![7]));
    let memory = memory.after(seconds(1));
    assert_eq!(memory.get("a", &[1]), None);
    assert_eq!(memory.get("b", &[1]).map(|seen| seen.age), Some(seconds(10)));
}

#[test]
fn lint_finds_what_leads_nowhere() {
    let mut graph = lint::Graph::default();
    graph.add("entry", true, false);
    graph.add("used", false, false);
    graph.add("empty", false, true);
    graph.add("lonely", false, false);
    graph.add("of the lonely", false, false);
    for (from, to) in
        [("entry", "used"), ("used", "empty"), ("used", "missing"), ("lonely", "of the lonely")]
    {
        graph.link(from, to);
    }
    let expected = [
        "used leads to empty, which is empty",
        "used leads to missing, which is not there",
        "nothing leads to lonely",
        "nothing leads to of the lonely",
    ];
    assert_eq!(graph.mistakes(&|_| false), expected);
    assert_eq!(graph.mistakes(&|name| name == "empty"), expected[1..]);
}
