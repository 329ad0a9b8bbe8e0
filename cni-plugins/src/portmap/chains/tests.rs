use netns_tools::iptables::{FakeRules, Rules};
use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn conf(mappings: &Value, extra: &Value) -> Conf {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "portmap",
        "runtimeConfig": { "portMappings": mappings },
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with_call("", &conf, Conf::parse).unwrap()
}

fn container() -> IpNetwork {
    "10.1.0.2/24".parse().unwrap()
}

fn add(rules: &mut FakeRules, conf: &Conf, names: &Names) -> String {
    let table = rules.save(TABLE).unwrap();
    let batch = Wanted::new(conf, container(), names).additions(&table).unwrap();
    rules.commit(&batch).unwrap();
    batch.to_string()
}

/// As made by the reference for the same network and container.
#[test]
fn names_are_the_reference_s() {
    let names = Names::new("testnet", "aaa");
    assert_eq!(names.chain, "CNI-DN-42d74bb14ad4e57c29134");
    assert_eq!(names.chain.len(), 28);
    assert_eq!(names.comment, "dnat name: \"testnet\" id: \"aaa\"");
    assert_eq!(Names::new("n", &"x".repeat(300)).comment.len(), 255);
}

#[test]
fn the_first_container_makes_what_all_share_and_the_second_its_own_only() {
    let mut rules = FakeRules::new(Family::V4);
    let mappings = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    let conf = conf(&mappings, &json!({}));
    let (one, two) = (Names::new("net", "c1"), Names::new("net", "c2"));
    let own = |names: &Names, id: &str| {
        let chain = &names.chain;
        format!(
            "-A {chain} -s 10.1.0.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.2:80\n\
             -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"net\\\" id: \\\"{id}\\\"\" \
             -m multiport --dports 8080 -j {chain}\nCOMMIT\n"
        )
    };
    assert_eq!(
        add(&mut rules, &conf, &one),
        format!(
            "*nat\n:{} - [0:0]\n\
             -N CNI-HOSTPORT-SETMARK\n\
             -A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000\n\
             -N CNI-HOSTPORT-MASQ\n\
             -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE\n\
             -I POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ\n\
             -N CNI-HOSTPORT-DNAT\n\
             -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
             -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n{}",
            one.chain,
            own(&one, "c1"),
        )
    );
    let second = add(&mut rules, &conf, &two);
    assert_eq!(second, format!("*nat\n:{} - [0:0]\n{}", two.chain, own(&two, "c2")));

    let before = rules.ruleset().clone();
    add(&mut rules, &conf, &two);
    assert_eq!(*rules.ruleset(), before, "a second ADD changes nothing");
    let table = rules.save(TABLE).unwrap();
    assert_eq!(Wanted::new(&conf, container(), &one).differences(&table), [""; 0]);
    let batch = removals(&table, &one);
    rules.commit(&batch).unwrap();
    let table = rules.save(TABLE).unwrap();
    assert!(removals(&table, &one).is_empty(), "a second DEL changes nothing");
    let text = table.to_string();
    assert!(!text.contains("c1") && text.contains("c2"), "{text}");
}

#[test]
fn old_chains_and_strange_jumps_go_too() {
    let (mut rules, one) = (FakeRules::new(Family::V4), Names::new("net", "c1"));
    let mut old = Batch::new();
    old.new_chain(TABLE, "CNI-HOSTPORT-SNAT");
    old.new_chain(TABLE, &one.old_chain);
    old.append(TABLE, &one.old_chain, "-s 127.0.0.1/32 -j MASQUERADE");
    old.append(TABLE, "CNI-HOSTPORT-SNAT", &format!("-j {}", one.old_chain));
    old.new_chain(TABLE, &one.chain);
    old.append(TABLE, "PREROUTING", &format!("-i eth0 -g {}", one.chain));
    rules.commit(&old).unwrap();
    let batch = removals(&rules.save(TABLE).unwrap(), &one);
    rules.commit(&batch).unwrap();
    let text = rules.save(TABLE).unwrap().to_string();
    assert!(!text.contains(&one.chain) && !text.contains(&one.old_chain), "{text}");
}

#[test]
fn ports_come_in_fifteens() {
    let mappings: Vec<_> =
        (1..=31).map(|n| json!({ "hostPort": n, "containerPort": n, "protocol": "udp" })).collect();
    let conf = conf(&json!(mappings), &json!({}));
    let names = Names::new("net", "c1");
    let wanted = Wanted::new(&conf, container(), &names);
    let entries = wanted.entries();
    let counts: Vec<_> = entries.iter().map(|entry| entry.rule().matches(',').count()).collect();
    assert_eq!(counts, [14, 14, 0]);
}

#[test]
fn everything_is_masqueraded_by_a_mark_without_a_source() {
    let mappings = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    let conf = conf(&mappings, &json!({ "masqAll": true }));
    let names = Names::new("net", "c1");
    assert_eq!(
        Wanted::new(&conf, container(), &names).own_rules(),
        [
            "-p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK",
            "-p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.2:80",
        ]
    );
}

#[test]
fn ipv6_targets_are_in_brackets_and_have_no_localhost() {
    let mappings = json!([{ "hostPort": 8080, "containerPort": 80, "hostIP": "2001:db8::1" }]);
    let conf = conf(&mappings, &json!({}));
    let names = Names::new("net", "c1");
    let wanted = Wanted::new(&conf, "fd00::2/64".parse().unwrap(), &names);
    assert_eq!(
        wanted.own_rules(),
        [
            "-s fd00::/64 -d 2001:db8::1/128 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK",
            "-d 2001:db8::1/128 -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd00::2]:80",
        ]
    );
}

#[test]
fn abandoned_chains_are_this_network_s_only() {
    let mut rules = FakeRules::new(Family::V4);
    let mappings = json!([
        { "hostPort": 53, "containerPort": 53, "protocol": "udp" },
        { "hostPort": 54, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1" },
    ]);
    let conf = conf(&mappings, &json!({}));
    // A name that begins like ours is another network's.
    let all = [("net", "c1"), ("net", "c2"), ("net2", "c1")].map(|(n, c)| Names::new(n, c));
    for names in &all {
        add(&mut rules, &conf, names);
    }
    let table = rules.save(TABLE).unwrap();
    let valid = BTreeSet::from([all[1].chain.clone()]);
    let found = abandoned(&table, "net", &valid);
    assert_eq!(found, [all[0].chain.clone()]);
    let to = "192.0.2.1".parse().unwrap();
    assert_eq!(udp_ports(&table, &found[0]), [(None, 53), (Some(to), 54)]);
    rules.commit(&removals_of(&table, &found)).unwrap();
    let text = rules.save(TABLE).unwrap().to_string();
    assert!(!text.contains(&all[0].chain), "{text}");
    assert!(text.contains(&all[1].chain) && text.contains(&all[2].chain), "{text}");
}
