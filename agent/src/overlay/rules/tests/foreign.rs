//! What other programs' rules do is told by name, and what is told helps.

use super::world::*;
use super::*;

fn problems(world: &World, rules: &mut Rules) -> Vec<String> {
    world.node.run(|| rules.sync(&input())).unwrap().problems
}

fn talk(world: &World) -> bool {
    talks((&world.pod, POD[0]), (&world.other_pod, OTHER_POD[0]))
}

/// Runs what stands between backticks.
fn follow(world: &World, problem: &str) {
    for command in problem.split('`').skip(1).step_by(2) {
        let words: Vec<_> = command.split(' ').collect();
        world.node.cmd(&words);
    }
}

#[test]
fn a_base_chain_that_drops_is_named_with_what_helps() {
    let table = [
        (
            "filter",
            "chain fw { type filter hook forward priority 0; policy drop; }",
            "its policy is drop",
        ),
        (
            "filter",
            "chain fw { type filter hook forward priority 10; ct state established accept; counter reject; }",
            "its last rule drops the rest",
        ),
        (
            "guards",
            "chain in { type filter hook input priority 0; policy drop; iifname \"lo\" accept; icmpv6 type nd-neighbor-solicit accept; }",
            "its policy is drop",
        ),
    ];
    for (name, chain, how) in table {
        let world = World::new();
        let mut rules = world.rules();
        world.sync(&mut rules, &input());
        assert!(talk(&world));
        world.node.cmd(&["nft", &format!("table inet {name} {{ {chain}; }}")]);
        assert!(!talk(&world), "{chain}");
        let told = problems(&world, &mut rules);
        assert_eq!(told.len(), 1, "{told:?}");
        let hung = chain.split(' ').nth(1).unwrap();
        assert!(
            told[0].starts_with(&format!("chain {hung} of table inet {name} drops")),
            "{told:?}"
        );
        assert!(told[0].contains(how), "{told:?}");
        follow(&world, &told[0]);
        assert_eq!(problems(&world, &mut rules), [""; 0]);
        assert!(talk(&world), "{told:?}");
    }
}

#[test]
fn what_accepts_pods_already_is_no_problem() {
    let world = World::new();
    let mut rules = world.rules();
    for chain in [
        "chain f { type filter hook forward priority 0; policy drop; ip saddr 10.0.0.0/8 accept; ip daddr 10.240.0.0/12 accept; \
         ip6 saddr fd02::/16 accept; ip6 daddr fd02::/48 accept; }",
        "chain i { type filter hook input priority 0; policy drop; udp dport { 53, 8472 } accept; }",
        "chain j { type filter hook input priority 1; policy drop; udp dport 8000-9000 accept; }",
        "chain k { type filter hook input priority 2; policy accept; tcp dport 22 drop; }",
        "chain o { type filter hook output priority 0; policy accept; tcp dport 22 drop; }",
    ] {
        world.node.cmd(&["nft", &format!("table inet theirs {{ {chain}; }}")]);
    }
    assert_eq!(problems(&world, &mut rules), [""; 0]);
}

#[test]
fn firewalld_is_told_in_its_own_words() {
    let world = World::new();
    let mut rules = world.rules();
    let table = "table inet firewalld { chain filter_FWD_trusted { accept; }; \
                 chain filter_FORWARD { type filter hook forward priority 10; policy accept; ct state established accept; REST reject; }; }";
    world.node.cmd(&["nft", &table.replace("REST", "")]);
    let told = problems(&world, &mut rules);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains(
            "`firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 && \
             firewall-cmd --permanent --zone=trusted --add-source=fd02::/48 && firewall-cmd --reload`"
        ),
        "{told:?}"
    );
    // as it writes a source of the zone
    let trusted = "ip saddr 10.244.0.0/16 goto filter_FWD_trusted; ip daddr 10.244.0.0/16 goto filter_FWD_trusted; \
                   ip6 saddr fd02::/48 goto filter_FWD_trusted; ip6 daddr fd02::/48 goto filter_FWD_trusted;";
    world.node.cmd(&["nft", "delete table inet firewalld"]);
    world.node.cmd(&["nft", &table.replace("REST", trusted)]);
    assert_eq!(problems(&world, &mut rules), [""; 0]);
}

/// The host has rules of iptables and not the programs.
#[test]
fn without_iptables_its_table_is_another_programs() {
    let world = World::new();
    world.node.cmd(&["iptables-nft", "-P", "FORWARD", "DROP"]);
    let before = world.node.cmd(&["iptables-nft-save"]);
    let mut rules = world.node.run(|| Rules::with(|_| Vec::new())).unwrap();
    let report = world.node.run(|| rules.sync(&input())).unwrap();
    assert_eq!((report.nft_commits, report.iptables_commits), (1, 0));
    assert!(
        report.problems[0].starts_with("chain FORWARD of table ip filter drops pods' packets"),
        "{report:?}"
    );
    let rules_of = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with(['#', ':']))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(rules_of(&world.node.cmd(&["iptables-nft-save"])), rules_of(&before));
    follow(&world, &report.problems[0]);
    assert_eq!(problems(&world, &mut rules), [""; 0]);
    assert!(talk(&world));
    assert!(world.node.run(|| rules.is_intact()).unwrap());
    assert_eq!(world.node.run(|| rules.cleanup()).unwrap(), ["table inet heddle-overlay"]);
}

#[test]
fn a_table_that_iptables_cannot_read_is_told() {
    let world = World::new();
    let mut rules = world.rules();
    world.node.cmd(&["iptables-nft", "-P", "FORWARD", "DROP"]);
    world.node.cmd(&["nft", "add rule ip filter FORWARD numgen random mod 2 0 drop"]);
    let told = problems(&world, &mut rules);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("iptables-nft cannot read table ip filter"), "{told:?}");
}

#[test]
fn plugins_that_masquerade_are_told() {
    let world = World::new();
    let mut rules = world.rules();
    let chain = "CNI-0123456789abcdef01234567";
    let commands = [
        format!("iptables-nft -t nat -N {chain}"),
        format!("iptables-nft -t nat -A POSTROUTING -s {}/32 -j {chain}", POD[0]),
        // of another network
        format!("iptables-nft -t nat -A POSTROUTING -s 172.20.0.2/32 -j {chain}"),
    ];
    for command in &commands {
        world.node.cmd(&command.split(' ').collect::<Vec<_>>());
    }
    world.node.cmd(&["nft", "table inet cni_plugins_masquerade { chain masq_checks { \
                      ip6 saddr fd02:0:0:1::2 ip6 daddr != fd02:0:0:1::/64 masquerade; ip saddr 172.20.0.2 masquerade; }; }"]);
    let told = problems(&world, &mut rules);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("2 rules of CNI plugins masquerade"), "{told:?}");
    let off = RuleInput { masquerade: false, ..input() };
    assert_eq!(world.node.run(|| rules.sync(&off)).unwrap().problems, [""; 0]);
}
