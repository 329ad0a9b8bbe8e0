//! Each kind of rule, as nft reads it and as we do.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::*;

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Rules and what nft calls them.
fn inet_rules() -> Vec<(Rule, &'static str)> {
    let rule = || INET.rule();
    let mac = "0a:58:00:00:00:01".parse().unwrap();
    vec![
        (
            rule().saddr_eq(ip("10.1.0.2")).daddr_ne(net("10.1.0.0/24")).accept(),
            "ip saddr 10.1.0.2 ip daddr != 10.1.0.0/24 accept",
        ),
        (rule().daddr_eq(net("224.0.0.0/4")).return_(), "ip daddr 224.0.0.0/4 return"),
        (rule().saddr_ne(net("10.0.0.0/9")).drop(), "ip saddr != 10.0.0.0/9 drop"),
        (
            rule().saddr_eq(ip("fd00::2")).daddr_ne(net("fd00::/64")).drop(),
            "ip6 saddr fd00::2 ip6 daddr != fd00::/64 drop",
        ),
        (rule().daddr_eq(net("ff00::/8")).return_(), "ip6 daddr ff00::/8 return"),
        (
            rule().daddr_eq(net("fd00::/61")).counter(),
            "ip6 daddr fd00::/61 counter packets 0 bytes 0",
        ),
        (rule().ipv4().jump("x"), "meta nfproto ipv4 jump x"),
        (rule().dport_eq(Transport::Tcp, 80).accept(), "tcp dport 80 accept"),
        (
            rule().saddr_eq(ip("10.0.0.1")).sport_eq(Transport::Udp, 53).accept(),
            "ip saddr 10.0.0.1 udp sport 53 accept",
        ),
        (rule().dport_in(Transport::Sctp, 100..=200).goto("x"), "sctp dport 100-200 goto x"),
        (
            rule().dport_eq(Transport::Tcp, 1).dport_eq(Transport::Tcp, 2).drop(),
            "tcp dport 1 tcp dport 2 drop",
        ),
        (
            rule().iifname_eq("eth0").oifname_ne("cni0").accept(),
            "iifname \"eth0\" oifname != \"cni0\" accept",
        ),
        (
            rule().iifname_ne("eth0").oifname_eq("cni0").accept(),
            "iifname != \"eth0\" oifname \"cni0\" accept",
        ),
        (rule().ether_saddr_eq(mac).accept(), "ether saddr 0a:58:00:00:00:01 accept"),
        (rule().mark_eq(0x2000, 0x2000).accept(), "meta mark & 0x00002000 == 0x00002000 accept"),
        (rule().mark_ne(7, u32::MAX).accept(), "meta mark != 0x00000007 accept"),
        (
            rule().ct_state(ct_state::ESTABLISHED | ct_state::RELATED).accept(),
            "ct state established,related accept",
        ),
        (rule().ct_state(ct_state::INVALID).drop(), "ct state invalid drop"),
        (rule().ct_status(ct_status::DNAT).accept(), "ct status dnat accept"),
        (rule().ct_mark_eq(0x10, 0xf0).accept(), "ct mark & 0x000000f0 == 0x00000010 accept"),
        (rule().daddr_is_local().accept(), "fib daddr type local accept"),
        (rule().saddr_is_local().accept(), "fib saddr type local accept"),
        (rule().saddr_is_not_local().drop(), "fib saddr type != local drop"),
        (rule().limit_per_second(5, 10).accept(), "limit rate 5/second burst 10 packets accept"),
        (rule().set_mark(5, u32::MAX), "meta mark set 0x00000005"),
        (rule().set_mark(0x2000, 0x2000), "meta mark set meta mark | 0x00002000"),
        (rule().set_ct_mark(0x10, 0xf0), "ct mark set ct mark & 0xffffff1f | 0x00000010"),
        (rule().reject(Reject::PortUnreachable), "reject"),
        (rule().reject(Reject::AdminProhibited), "reject with icmpx admin-prohibited"),
        (rule().reject(Reject::NoRoute), "reject with icmpx no-route"),
        (rule().reject(Reject::HostUnreachable), "reject with icmpx host-unreachable"),
        (
            rule().transport(Transport::Tcp).reject(Reject::TcpReset),
            "meta l4proto tcp reject with tcp reset",
        ),
        (rule().ipv4().reject(Reject::Icmp(10)), "reject with icmp host-prohibited"),
        (rule().comment("just so"), "comment \"just so\""),
        (rule().in_set(&[Field::IpSaddr], "set"), "ip saddr @set"),
        (rule().not_in_set(&[Field::IpSaddr], "set"), "ip saddr != @set"),
        (
            rule().verdict_map(&[Field::IpDaddr, Field::L4Proto, Field::Dport], "vmap"),
            "ip daddr . meta l4proto . th dport vmap @vmap",
        ),
        (rule().ipv6().in_set(&[Field::Mark], "marks"), "meta nfproto ipv6 meta mark @marks"),
    ]
}

fn nat_rules() -> Vec<(Rule, &'static str)> {
    let rule = || INET.rule();
    vec![
        (rule().masquerade(), "masquerade"),
        (rule().masquerade_with(NatFlags::FULLY_RANDOM), "masquerade fully-random"),
        (
            rule().masquerade_with(NatFlags::RANDOM | NatFlags::PERSISTENT),
            "masquerade random,persistent",
        ),
    ]
}

fn dnat_rules() -> Vec<(Rule, &'static str)> {
    let rule = || INET.rule();
    let key = [Field::IpDaddr, Field::L4Proto, Field::Dport];
    vec![
        (
            rule().dport_eq(Transport::Tcp, 8080).dnat(ip("10.1.0.2"), Some(80)),
            "tcp dport 8080 dnat ip to 10.1.0.2:80",
        ),
        (
            rule().dport_eq(Transport::Udp, 53).dnat(ip("fd00::2"), Some(5353)),
            "udp dport 53 dnat ip6 to [fd00::2]:5353",
        ),
        (
            rule().daddr_eq(ip("10.0.0.1")).dnat(ip("10.1.0.2"), None),
            "ip daddr 10.0.0.1 dnat ip to 10.1.0.2",
        ),
        (rule().dport_eq(Transport::Tcp, 80).redirect(8080), "tcp dport 80 redirect to :8080"),
        (
            rule().dnat_map(Family::Ip, &key, "dmap", true),
            "dnat ip to ip daddr . meta l4proto . th dport map @dmap",
        ),
        (
            rule().dnat_map(Family::Ip, &[Field::IpDaddr], "amap", false),
            "dnat ip to ip daddr map @amap",
        ),
    ]
}

/// Commits the rules and compares them with what nft prints, and with what we read back.
fn check(hook: Option<(ChainKind, Hook)>, rules: &[(Rule, &str)]) {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let mut batch = Batch::new();
    let service = [Type::Ipv4Addr, Type::InetProto, Type::InetService];
    batch.add_table(INET);
    batch.add_chain(INET, &Chain::new("x"));
    batch.add_set(INET, &Set::new("set", &[Type::Ipv4Addr]));
    batch.add_set(INET, &Set::new("marks", &[Type::Mark]));
    batch.add_set(INET, &Set::verdict_map("vmap", &service));
    batch.add_set(INET, &Set::map("dmap", &service, &[Type::Ipv4Addr, Type::InetService]));
    batch.add_set(INET, &Set::map("amap", &[Type::Ipv4Addr], &[Type::Ipv4Addr]));
    let chain = match hook {
        Some((kind, hook)) => Chain::base("c", kind, hook, 0),
        None => Chain::new("c"),
    };
    batch.add_chain(INET, &chain);
    for (rule, _) in rules {
        batch.add_rule(INET, "c", rule);
    }
    nft.commit(&batch).unwrap();
    let text = ns.cmd(&["nft", "list", "chain", "inet", "t", "c"]);
    let printed: Vec<_> =
        text.lines().skip(if hook.is_some() { 3 } else { 2 }).map(str::trim).collect();
    let listed = nft.rules(INET, Some("c")).unwrap();
    assert_eq!(listed.len(), rules.len());
    for (number, (rule, want)) in rules.iter().enumerate() {
        assert_eq!(printed[number], *want);
        assert!(listed[number].does(rule), "{want}\n{:#?}\n{rule:#?}", listed[number]);
        let others = rules.iter().filter(|(other, _)| listed[number].does(other)).count();
        assert_eq!(others, 1, "{want} is like no other rule");
    }
}

#[test]
fn matches_and_verdicts() {
    check(Some((ChainKind::Filter, Hook::Input)), &inet_rules());
    check(None, &[(INET.rule().notrack(), "notrack")]);
}

#[test]
fn source_nat() {
    check(Some((ChainKind::Nat, Hook::Postrouting)), &nat_rules());
    let snat = (
        INET.rule().transport(Transport::Tcp).snat(ip("10.0.0.1"), Some(1024)),
        "meta l4proto tcp snat ip to 10.0.0.1:1024",
    );
    check(Some((ChainKind::Nat, Hook::Postrouting)), &[snat]);
}

#[test]
fn destination_nat() {
    check(Some((ChainKind::Nat, Hook::Prerouting)), &dnat_rules());
}

#[test]
fn comments_are_read_back() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let mut batch = with_chain(Family::Inet);
    let commented = INET.rule().counter().comment("name: \"a\", id: b");
    batch.add_rule(INET, "c", &commented);
    nft.commit(&batch).unwrap();
    // One that nft wrote.
    ns.cmd(&["nft", "add", "rule", "inet", "t", "c", "counter", "comment", "\"theirs\""]);
    let rules = nft.rules(INET, None).unwrap();
    let comments: Vec<_> = rules.iter().map(|rule| rule.comment.as_deref()).collect();
    assert_eq!(comments, [Some("name: \"a\", id: b"), Some("theirs")]);
    assert!(rules.iter().all(|rule| rule.does(&commented)));
}

#[test]
fn bridge_rules_match_the_frame() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let table = Table::new(Family::Bridge, "t");
    let mut batch = with_chain(Family::Bridge);
    let mac = "0a:58:00:00:00:01".parse().unwrap();
    batch.add_rule(table, "c", &table.rule().iifname_eq("veth1").ether_saddr_ne(mac).drop());
    batch.add_rule(table, "c", &table.rule().saddr_eq(ip("10.0.0.1")).accept());
    nft.commit(&batch).unwrap();
    let text = ns.cmd(&["nft", "list", "chain", "bridge", "t", "c"]);
    assert!(text.contains("iifname \"veth1\" ether saddr != 0a:58:00:00:00:01 drop"), "{text}");
    assert!(text.contains("ip saddr 10.0.0.1 accept"), "{text}");
}

#[test]
fn rules_are_added_where_they_should_be_and_deleted_by_handle() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    let named = |name: &str| INET.rule().comment(name);
    let mut batch = with_chain(Family::Inet);
    batch.add_rule(INET, "c", &named("one")).add_rule(INET, "c", &named("two"));
    batch.insert_rule(INET, "c", &named("zero"));
    nft.commit(&batch).unwrap();
    let order = |nft: &mut Nftables| -> Vec<(String, u64)> {
        let rules = nft.rules(INET, Some("c")).unwrap();
        rules.into_iter().map(|rule| (rule.comment.unwrap(), rule.handle)).collect()
    };
    let before = order(&mut nft);
    let mut batch = Batch::new();
    batch.add_rule_after(INET, "c", before[1].1, &named("one and a half"));
    batch.insert_rule_before(INET, "c", before[1].1, &named("one half"));
    batch.replace_rule(INET, "c", before[2].1, &named("two again"));
    batch.delete_rule(INET, "c", before[0].1);
    nft.commit(&batch).unwrap();
    let found: Vec<_> = order(&mut nft).into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, ["one half", "one", "one and a half", "two again"]);
}

#[test]
fn rules_of_other_programs_are_kept_whole() {
    let ns = TestNetns::new("nft");
    let mut nft = open(&ns);
    nft.commit(&with_chain(Family::Inet)).unwrap();
    let lines = [
        "meta time > \"2020-01-01 00:00:00\" accept",
        "log prefix \"x\" level debug",
        "ct count over 20 drop",
        "tcp flags syn / fin,syn,rst,ack limit rate over 5 mbytes/second drop",
    ];
    for line in lines {
        ns.cmd(&["sh", "-c", &format!("nft 'add rule inet t c {line}'")]);
    }
    let theirs = ns.cmd(&["nft", "list", "chain", "inet", "t", "c"]);
    // What we read, we can write: the same rules come of it.
    let mut batch = Batch::new();
    for listed in nft.rules(INET, Some("c")).unwrap() {
        let rule = listed.expressions.into_iter().fold(INET.rule(), Rule::expr);
        batch.replace_rule(INET, "c", listed.handle, &rule);
    }
    nft.commit(&batch).unwrap();
    assert_eq!(ns.cmd(&["nft", "list", "chain", "inet", "t", "c"]), theirs);
}
