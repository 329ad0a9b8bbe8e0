use netns_tools::iptables::{FakeRules, Rules};

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A nat table with the kernel's chains, on which rules are committed as the kernel would.
fn empty() -> FakeRules {
    FakeRules::new(Family::V4)
}

fn apply(rules: &mut FakeRules, plan: impl Fn(&Table) -> Batch) -> String {
    let table = rules.save(TABLE).unwrap();
    let batch = plan(&table);
    rules.commit(&batch).unwrap();
    batch.to_string()
}

fn rules_in(rules: &mut FakeRules) -> Vec<String> {
    let table = rules.save(TABLE).unwrap();
    let lines = table.to_string();
    lines.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

/// As made by the reference for the same network and container.
#[test]
fn names_are_the_reference_s() {
    let one = Masquerade::new("testnet", "aaa");
    assert_eq!(one.chain().len(), 28);
    assert_eq!(one.chain(), "CNI-42d74bb14ad4e57c2913491e");
    assert_eq!(one.comment, "name: \"testnet\" id: \"aaa\"");
    assert_eq!(Masquerade::new("n", &"x".repeat(300)).comment.len(), 255);
}

#[test]
fn one_batch_makes_everything_and_another_one_removes_it() {
    let (mut rules, one) = (empty(), Masquerade::new("net", "c1"));
    let addresses = nets(&["10.1.0.2/24"]);
    let chain = one.chain().to_owned();
    let comment = r#"-m comment --comment "name: \"net\" id: \"c1\"""#;
    let made = apply(&mut rules, |table| one.additions(table, &addresses));
    assert_eq!(
        made,
        format!(
            "*nat\n:{chain} - [0:0]\n\
             -A {chain} -d 10.1.0.0/24 {comment} -j ACCEPT\n\
             -A {chain} ! -d 224.0.0.0/4 {comment} -j MASQUERADE\n\
             -A POSTROUTING -s 10.1.0.2/32 {comment} -j {chain}\nCOMMIT\n"
        )
    );
    let again = rules.save(TABLE).unwrap();
    assert!(one.additions(&again, &addresses).is_empty(), "a second ADD changes nothing");
    let removed = apply(&mut rules, |table| one.removals(table, &addresses));
    assert_eq!(
        removed,
        format!(
            "*nat\n:{chain} - [0:0]\n\
             -D POSTROUTING -s 10.1.0.2/32 {comment} -j {chain}\n-X {chain}\nCOMMIT\n"
        )
    );
    assert_eq!(rules_in(&mut rules), [""; 0]);
    let nothing = rules.save(TABLE).unwrap();
    assert!(one.removals(&nothing, &addresses).is_empty(), "a second DEL changes nothing");
}

#[test]
fn two_networks_of_a_container_are_both_spared() {
    let (mut rules, one) = (empty(), Masquerade::new("net", "c1"));
    apply(&mut rules, |table| one.additions(table, &nets(&["10.1.0.2/24", "10.2.0.2/24"])));
    let in_chain: Vec<_> =
        rules_in(&mut rules).into_iter().filter(|rule| rule.starts_with("-A CNI-")).collect();
    assert!(in_chain[0].contains("10.1.0.0/24") && in_chain[1].contains("10.2.0.0/24"));
    assert!(in_chain[2].ends_with("MASQUERADE") && in_chain.len() == 3, "{in_chain:?}");
}

#[test]
fn two_interfaces_share_a_chain_and_the_last_one_removes_it() {
    let (mut rules, one) = (empty(), Masquerade::new("net", "c1"));
    let (eth0, eth1) = (nets(&["10.1.0.2/24"]), nets(&["10.1.0.3/24"]));
    apply(&mut rules, |table| one.additions(table, &eth0));
    apply(&mut rules, |table| one.additions(table, &eth1));
    assert_eq!(rules_in(&mut rules).len(), 4);
    apply(&mut rules, |table| one.removals(table, &eth0));
    let left = rules_in(&mut rules);
    assert!(left.len() == 3 && left.iter().any(|rule| rule.contains("10.1.0.3/32")), "{left:?}");
    apply(&mut rules, |table| one.removals(table, &eth1));
    assert_eq!(rules_in(&mut rules), [""; 0]);
}

#[test]
fn without_addresses_everything_of_the_container_goes_and_nothing_else() {
    let (mut rules, one, two) =
        (empty(), Masquerade::new("net", "c1"), Masquerade::new("net", "c2"));
    apply(&mut rules, |table| one.additions(table, &nets(&["10.1.0.2/24"])));
    apply(&mut rules, |table| two.additions(table, &nets(&["10.1.0.3/24"])));
    apply(&mut rules, |table| one.removals(table, &[]));
    let left = rules_in(&mut rules);
    assert!(left.len() == 3 && left.iter().all(|rule| rule.contains("c2")), "{left:?}");
}

#[test]
fn the_old_form_with_a_prefix_is_removed_too() {
    let (mut rules, one) = (empty(), Masquerade::new("net", "c1"));
    let mut old = Batch::default();
    old.declare_chain(TABLE, one.chain());
    old.append(TABLE, HOOK, &format!("-s 10.1.0.0/24 -j {}", one.chain()));
    rules.commit(&old).unwrap();
    apply(&mut rules, |table| one.removals(table, &nets(&["10.1.0.2/24"])));
    assert_eq!(rules_in(&mut rules), [""; 0]);
}

#[test]
fn the_other_family_has_its_own_multicast() {
    let one = Masquerade::new("net", "c1");
    let batch = one.additions(&Table::default(), &nets(&["fd00::2/64"])).to_string();
    assert!(batch.contains("-d fd00::/64 ") && batch.contains("! -d ff00::/8 "), "{batch}");
    assert!(batch.contains("-s fd00::2/128 "), "{batch}");
}
