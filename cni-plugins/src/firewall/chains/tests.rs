use netns_tools::iptables::{FakeRules, Family, Rules};

use super::*;

fn wanted<'a>(host: &str, isolation: Option<(&'a str, Policy)>) -> Wanted<'a> {
    Wanted { hosts: vec![host.parse().unwrap()], admin_chain: "CNI-ADMIN", isolation }
}

fn add(rules: &mut FakeRules, wanted: &Wanted<'_>) -> String {
    let table = rules.save(TABLE).unwrap();
    let batch = wanted.additions(&table);
    rules.commit(&batch).unwrap();
    let table = rules.save(TABLE).unwrap();
    assert_eq!(wanted.differences(&table), [""; 0]);
    assert!(wanted.additions(&table).is_empty(), "a second ADD changes nothing");
    batch.to_string()
}

fn lines(rules: &mut FakeRules) -> Vec<String> {
    let text = rules.save(TABLE).unwrap().to_string();
    text.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

const COMMENT: &str =
    "-m comment --comment \"CNI firewall plugin rules (ingressPolicy: same-bridge)\"";

/// As made by the reference.
#[test]
fn the_rules_are_the_reference_s() {
    let mut rules = FakeRules::new(Family::V4);
    let same_bridge = Some(("br0", Policy::SameBridge));
    add(&mut rules, &wanted("10.1.0.2/32", same_bridge));
    let expected = [
        "-A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN"
            .to_owned(),
        "-A CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            .to_owned(),
        "-A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT".to_owned(),
        format!("-A CNI-ISOLATION-STAGE-1 -i br0 ! -o br0 {COMMENT} -j CNI-ISOLATION-STAGE-2"),
        format!("-A CNI-ISOLATION-STAGE-1 {COMMENT} -j RETURN"),
        format!("-A CNI-ISOLATION-STAGE-2 -o br0 {COMMENT} -j DROP"),
        format!("-A CNI-ISOLATION-STAGE-2 {COMMENT} -j RETURN"),
        format!("-A FORWARD {COMMENT} -j CNI-ISOLATION-STAGE-1"),
        "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD".to_owned(),
    ];
    assert_eq!(lines(&mut rules), expected);
    let second = add(&mut rules, &wanted("10.1.0.3/32", same_bridge));
    assert_eq!(
        second,
        "*filter\n\
         -A CNI-FORWARD -d 10.1.0.3/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A CNI-FORWARD -s 10.1.0.3/32 -j ACCEPT\nCOMMIT\n"
    );
    let table = rules.save(TABLE).unwrap();
    rules.commit(&removals(&table, &["10.1.0.3/32".parse().unwrap()])).unwrap();
    assert_eq!(lines(&mut rules), expected);
}

#[test]
fn isolated_drops_within_the_bridge_too_and_shares_the_rest() {
    let mut rules = FakeRules::new(Family::V4);
    add(&mut rules, &wanted("10.1.0.2/32", Some(("br0", Policy::SameBridge))));
    let more = add(&mut rules, &wanted("10.1.0.3/32", Some(("br0", Policy::Isolated))));
    let added = more.lines().filter(|line| line.contains("ISOLATION")).collect::<Vec<_>>();
    assert_eq!(
        added,
        [
            "-I CNI-ISOLATION-STAGE-1 -i br0 -o br0 -m comment --comment \"CNI firewall plugin rules (ingressPolicy: isolated)\" -j DROP"
        ]
    );
}

/// The reference inserts CNI-FORWARD before an isolation that is there already; then nothing is isolated.
#[test]
fn the_isolation_comes_first_whoever_came_first() {
    let jumps = |rules: &mut FakeRules| -> Vec<String> {
        let forward = lines(rules).into_iter().filter(|line| line.starts_with("-A FORWARD"));
        forward.map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    let isolating =
        Wanted { hosts: Vec::new(), ..wanted("10.1.0.2/32", Some(("br0", Policy::SameBridge))) };
    let open = wanted("10.1.0.3/32", None);
    let mut rules = FakeRules::new(Family::V4);
    add(&mut rules, &isolating);
    add(&mut rules, &open);
    assert_eq!(jumps(&mut rules), [STAGE_1, FORWARD]);

    let mut rules = FakeRules::new(Family::V4);
    add(&mut rules, &open);
    add(&mut rules, &isolating);
    assert_eq!(jumps(&mut rules), [STAGE_1, FORWARD]);

    // Somebody has put it wrong.
    let mut wrong = Batch::new();
    wrong.delete(TABLE, HOOK, &isolation_jump());
    wrong.append(TABLE, HOOK, &isolation_jump());
    rules.commit(&wrong).unwrap();
    let table = rules.save(TABLE).unwrap();
    assert_eq!(
        isolating.differences(&table),
        ["CNI-FORWARD comes before CNI-ISOLATION-STAGE-1 in chain FORWARD"]
    );
    add(&mut rules, &isolating);
    assert_eq!(jumps(&mut rules), [STAGE_1, FORWARD]);
}

#[test]
fn every_missing_rule_is_a_difference() {
    let mut rules = FakeRules::new(Family::V6);
    let wanted = wanted("fd00::2/128", Some(("br0", Policy::Isolated)));
    add(&mut rules, &wanted);
    for line in lines(&mut rules) {
        let (chain, rule) = line.strip_prefix("-A ").unwrap().split_once(' ').unwrap();
        if rule.ends_with("-j RETURN") {
            continue;
        }
        let mut without = rules.clone();
        let mut batch = Batch::new();
        batch.delete(TABLE, chain, rule);
        without.commit(&batch).unwrap();
        let found = wanted.differences(&without.save(TABLE).unwrap());
        assert_eq!(found.len(), 1, "{line}: {found:?}");
    }
}
