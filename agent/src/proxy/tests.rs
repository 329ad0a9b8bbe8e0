use std::collections::BTreeSet;

use netns_tools::iptables::{FakeRules, Family, split_words};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::pods::{NamedPort, Protocol};
use super::*;

fn service(name: &str, spec: Value) -> Service {
    serde_json::from_value(
        json!({"metadata": {"namespace": "default", "name": name}, "spec": spec}),
    )
    .unwrap()
}

fn pod(app: &str, ip: &str) -> PodEndpoint {
    PodEndpoint {
        namespace: "default".into(),
        name: format!("{app}-{ip}"),
        labels: [("app".to_owned(), app.to_owned())].into(),
        ip: ip.parse().unwrap(),
        ports: vec![NamedPort { name: Some("web".into()), port: 8080, protocol: Protocol::Tcp }],
        ready: true,
    }
}

/// The services of the recording that this form of the proxy has.
fn recorded() -> Desired {
    let cip = service(
        "cip",
        json!({"clusterIP": "10.96.0.10", "selector": {"app": "cip"}, "ports": [
        {"name": "p80", "port": 80, "targetPort": 8080}, {"name": "p53", "port": 53, "protocol": "UDP"}]}),
    );
    let np = service(
        "np",
        json!({"type": "NodePort", "clusterIP": "10.96.0.20", "selector": {"app": "np"},
        "ports": [{"name": "p80", "port": 80, "targetPort": "web", "nodePort": 30080}]}),
    );
    let noep = service(
        "noep",
        json!({"type": "NodePort", "clusterIP": "10.96.0.40", "selector": {"app": "noep"},
        "ports": [{"name": "p80", "port": 80, "nodePort": 30082}]}),
    );
    let pods = [
        ("cip", "10.244.1.1"),
        ("cip", "10.244.2.1"),
        ("cip", "10.244.3.1"),
        ("np", "10.244.1.2"),
        ("np", "10.244.2.2"),
    ];
    Desired { services: vec![cip, np, noep], pods: pods.map(|(app, ip)| pod(app, ip)).into() }
}

fn config() -> ProxyConfig {
    ProxyConfig { cluster_cidr: Some("10.240.0.0/12".parse().unwrap()), ..ProxyConfig::default() }
}

fn lines(desired: &Desired) -> BTreeSet<String> {
    let wanted = rules::generate(&config(), &pods::service_ports(&desired.services, &desired.pods));
    let chains = wanted.nat.iter().chain(&wanted.filter);
    chains
        .flat_map(|(name, rules)| rules.iter().map(move |rule| format!("-A {name} {rule}")))
        .collect()
}

/// kube-proxy 1.36, recorded, line by line. Left out of the recording: rules with an `nfacct` match, which count packets
/// and need a module; services with features that come later.
#[test]
fn rules_are_kube_proxys() {
    // the kernel prints a probability as it rounds it, which is not how kube-proxy wrote it
    let round = |line: &str| match line.split_once("--probability ") {
        None => line.to_owned(),
        Some((head, tail)) => {
            let (number, rest) = tail.split_once(' ').unwrap();
            format!("{head}--probability {:.6} {rest}", number.parse::<f64>().unwrap())
        }
    };
    let theirs: BTreeSet<_> =
        include_str!("fixtures/kube-proxy-services.txt").lines().map(round).collect();
    let about_a_service =
        |line: &String| line.contains("default/") || line.contains("KUBE-EXT-N43N6SSSRGXXTFWH -j");
    let ours: BTreeSet<_> = lines(&recorded())
        .iter()
        .filter(|line| about_a_service(line))
        .map(|line| round(line))
        .collect();
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let extra: Vec<_> = ours.difference(&theirs).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
}

#[test]
fn the_rules_of_one_service() {
    let desired = Desired {
        services: vec![service(
            "web",
            json!({"type": "NodePort", "clusterIP": "10.96.1.1", "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}]}),
        )],
        pods: vec![
            pod("web", "10.244.0.2"),
            pod("web", "10.244.0.3"),
            PodEndpoint { ready: false, ..pod("web", "10.244.0.4") },
        ],
    };
    let wanted = rules::generate(&config(), &pods::service_ports(&desired.services, &desired.pods));
    insta::assert_snapshot!(text(&wanted.nat), @r#"
    KUBE-EXT-LOLE4ISW44XBNF3G -m comment --comment "masquerade traffic for default/web external destinations" -j KUBE-MARK-MASQ
    KUBE-EXT-LOLE4ISW44XBNF3G -j KUBE-SVC-LOLE4ISW44XBNF3G
    KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
    KUBE-NODEPORTS -p tcp -m comment --comment "default/web" -m tcp --dport 30080 -j KUBE-EXT-LOLE4ISW44XBNF3G
    KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
    KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
    KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
    KUBE-SEP-2OYZRSTTDHUPO7SU -s 10.244.0.2/32 -m comment --comment "default/web" -j KUBE-MARK-MASQ
    KUBE-SEP-2OYZRSTTDHUPO7SU -p tcp -m comment --comment "default/web" -m tcp -j DNAT --to-destination 10.244.0.2:8080
    KUBE-SEP-4BF5YOXF4CNSHTIN -s 10.244.0.3/32 -m comment --comment "default/web" -j KUBE-MARK-MASQ
    KUBE-SEP-4BF5YOXF4CNSHTIN -p tcp -m comment --comment "default/web" -m tcp -j DNAT --to-destination 10.244.0.3:8080
    KUBE-SERVICES -d 10.96.1.1/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-SVC-LOLE4ISW44XBNF3G
    KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
    KUBE-SVC-LOLE4ISW44XBNF3G ! -s 10.240.0.0/12 -d 10.96.1.1/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
    KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web -> 10.244.0.2:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-2OYZRSTTDHUPO7SU
    KUBE-SVC-LOLE4ISW44XBNF3G -m comment --comment "default/web -> 10.244.0.3:8080" -j KUBE-SEP-4BF5YOXF4CNSHTIN
    "#);
}

fn text(chains: &Chains) -> String {
    let lines = chains
        .iter()
        .flat_map(|(name, rules)| rules.iter().map(move |rule| format!("{name} {rule}")));
    lines.collect::<Vec<_>>().join("\n")
}

/// A proxy over a fake that the test can still look at.
fn proxy() -> (Proxy, std::sync::Arc<std::sync::Mutex<FakeRules>>) {
    let fake = std::sync::Arc::new(std::sync::Mutex::new(FakeRules::new(Family::V4)));
    (Proxy::new(config(), Box::new(Shared(fake.clone()))), fake)
}

struct Shared(std::sync::Arc<std::sync::Mutex<FakeRules>>);

impl Rules for Shared {
    fn family(&self) -> Family {
        Family::V4
    }
    fn save(&mut self, table: &str) -> Result<netns_tools::iptables::Table, IptablesError> {
        self.0.lock().unwrap().save(table)
    }
    fn commit(&mut self, batch: &Batch) -> Result<(), IptablesError> {
        self.0.lock().unwrap().commit(batch)
    }
}

#[test]
fn only_changed_chains_are_restored() {
    let (mut proxy, fake) = proxy();
    let mut desired = recorded();
    proxy.sync(&desired).unwrap();
    assert_eq!(proxy.sync(&desired).unwrap(), SyncReport::default());
    desired.pods.push(pod("np", "10.244.3.2"));
    assert_eq!(proxy.sync(&desired).unwrap(), SyncReport { written: 2, deleted: 0 });
    let batch = fake.lock().unwrap().commits.last().unwrap().clone();
    assert!(!batch.contains(":KUBE-SERVICES") && !batch.contains("*filter"), "{batch}");
    assert_eq!(batch.matches("\n:KUBE-").count(), 2, "{batch}");
    desired.pods.pop();
    assert_eq!(proxy.sync(&desired).unwrap(), SyncReport { written: 1, deleted: 1 });
}

#[test]
fn a_new_agent_adopts_the_rules_it_finds() {
    let (mut proxy, fake) = proxy();
    proxy.sync(&recorded()).unwrap();
    let before = fake.lock().unwrap().ruleset().clone();
    let mut second = Proxy::new(config(), Box::new(Shared(fake.clone())));
    assert_eq!(second.sync(&recorded()).unwrap(), SyncReport::default());
    assert_eq!(*fake.lock().unwrap().ruleset(), before);
}

#[test]
fn a_failed_commit_is_made_up_for() {
    let (mut proxy, fake) = proxy();
    proxy.sync(&recorded()).unwrap();
    fake.lock().unwrap().fail_next = Some("no".to_owned());
    assert!(proxy.sync(&Desired::default()).is_err());
    proxy.sync(&Desired::default()).unwrap();
    let text = fake.lock().unwrap().to_string();
    assert!(!text.contains("KUBE-SVC-") && text.contains("KUBE-SERVICES"), "{text}");
}

#[test]
fn cleanup_leaves_foreign_rules_and_nothing_else() {
    let (mut proxy, fake) = proxy();
    let mut foreign = Batch::new();
    foreign.declare_chain("nat", "DOCKER");
    foreign.append("nat", "PREROUTING", "-j DOCKER");
    foreign.append("filter", "FORWARD", "-j DROP");
    foreign.declare_chain("nat", "KUBE-KUBELET-CANARY");
    fake.lock().unwrap().commit(&foreign).unwrap();
    let before = fake.lock().unwrap().ruleset().clone();
    proxy.sync(&recorded()).unwrap();
    let forward = fake.lock().unwrap().ruleset().tables["filter"].rules("FORWARD");
    assert!(forward[0].contains("KUBE-FORWARD") && forward[3] == "-j DROP", "{forward:#?}");
    proxy.cleanup().unwrap();
    assert_eq!(*fake.lock().unwrap().ruleset(), before);
    proxy.cleanup().unwrap();
}

#[test]
fn every_chain_that_is_jumped_to_exists_and_every_chain_is_jumped_to() {
    let desired = recorded();
    let wanted = rules::generate(&config(), &pods::service_ports(&desired.services, &desired.pods));
    for (table, chains) in [("nat", &wanted.nat), ("filter", &wanted.filter)] {
        let mut targets: BTreeSet<String> = rules::JUMPS
            .iter()
            .filter(|(of, ..)| *of == table)
            .map(|(_, _, rule)| split_words(rule).pop().unwrap())
            .collect();
        for rule in chains.values().flatten() {
            let words = split_words(rule);
            let jump = words.iter().position(|word| word == "-j").unwrap();
            targets.extend(words.get(jump + 1).filter(|word| word.starts_with("KUBE-")).cloned());
        }
        assert_eq!(targets, chains.keys().cloned().collect(), "{table}");
    }
}

/// Services that ask for something else are left alone.
#[test]
fn headless_external_and_foreign_services_have_no_rules() {
    let mut labelled = service("l", json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}));
    labelled.metadata.labels =
        Some([(pods::PROXY_NAME_LABEL.to_owned(), "other".to_owned())].into());
    let desired = Desired {
        services: vec![
            service("h", json!({"clusterIP": "None", "ports": [{"port": 80}]})),
            service("e", json!({"type": "ExternalName", "externalName": "x"})),
            labelled,
        ],
        pods: Vec::new(),
    };
    assert_eq!(lines(&desired), lines(&Desired::default()));
}

fn any_desired() -> impl Strategy<Value = Desired> {
    let services = proptest::collection::btree_map(0u8..6, (any::<bool>(), 1u8..4), 0..6);
    let pods = proptest::collection::btree_set((0u8..6, 1u8..6), 0..12);
    (services, pods).prop_map(|(services, pods)| {
        let make = |(number, (node_port, port)): (u8, (bool, u8))| {
            let mut port = json!({"port": port, "targetPort": 8080});
            if node_port {
                port["nodePort"] = json!(30000 + i32::from(number));
            }
            let spec = json!({"clusterIP": format!("10.96.0.{number}"), "selector": {"app": format!("a{number}")}, "ports": [port]});
            service(&format!("s{number}"), spec)
        };
        let pods = pods.into_iter().map(|(app, host)| pod(&format!("a{app}"), &format!("10.244.{app}.{host}")));
        Desired { services: services.into_iter().map(make).collect(), pods: pods.collect() }
    })
}

proptest! {
    /// Whatever happened before, the rules are those of a proxy that sees the last state first.
    #[test]
    fn increments_lead_where_a_fresh_start_leads(states in proptest::collection::vec(any_desired(), 1..6), fail in 0usize..6) {
        let (mut incremental, fake) = proxy();
        for (index, state) in states.iter().enumerate() {
            if index == fail {
                fake.lock().unwrap().fail_next = Some("no".to_owned());
                incremental.sync(state).ok();
                fake.lock().unwrap().fail_next = None;
            }
            incremental.sync(state).unwrap();
        }
        let (mut fresh, expected) = proxy();
        fresh.sync(states.last().unwrap()).unwrap();
        let (found, expected) = (fake.lock().unwrap().clone(), expected.lock().unwrap().clone());
        prop_assert_eq!(found.ruleset(), expected.ruleset());
    }
}
