//! Services against a store that refuses what the real one refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::Plan;
use super::repair::Repair;
use super::*;
use crate::store::{Condition, Operation, Outcome, Record, Revision, Write};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const SERVICES: &str = "/registry/services/specs/";

/// The transactions of a store, and nothing else of it.
#[derive(Default)]
struct Keys {
    records: BTreeMap<String, Record>,
    revision: u64,
}

impl Keys {
    fn commit(&mut self, operations: &[Operation]) -> Outcome {
        let names: BTreeSet<_> = operations.iter().map(|one| &one.key).collect();
        assert_eq!(names.len(), operations.len(), "no key twice: {operations:?}");
        for (index, one) in operations.iter().enumerate() {
            let held = self.records.get(&one.key);
            let holds = match one.condition {
                Condition::Absent => held.is_none(),
                Condition::At(revision) => held.is_some_and(|held| held.modified == revision),
            };
            if !holds {
                return Outcome::Refused(index, held.cloned());
            }
        }
        self.revision += 1;
        let modified = Revision(self.revision);
        for Operation { key, write, .. } in operations {
            match write {
                Write::Put(value) => {
                    let (key, value) = (key.clone(), value.clone());
                    let record = Record { key: key.clone(), value, created: modified, modified };
                    self.records.insert(key, record);
                }
                Write::Delete => drop(self.records.remove(key)),
                Write::Check => {}
            }
        }
        Outcome::Committed(modified)
    }

    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for (key, record) in &self.records {
            if key.starts_with(ADDRESSES) || key.starts_with(PORTS) {
                ledger.observe(key, Some(record));
            }
        }
        ledger
    }

    fn services(&self) -> Vec<Value> {
        let ours = self.records.iter().filter(|(key, _)| key.starts_with(SERVICES));
        ours.map(|(_, record)| serde_json::from_slice(&record.value).unwrap()).collect()
    }

    /// Every Service has what it says, alone, and nothing else is taken.
    fn check(&self) {
        let mut expected = BTreeSet::new();
        for service in self.services() {
            for key in plan::keys(&Claims::of(&service)) {
                let record = self.records.get(&key).unwrap_or_else(|| panic!("{key} is not taken"));
                let mut ledger = Ledger::default();
                ledger.observe(&key, Some(record));
                assert_eq!(ledger.holding(&key).unwrap().owner, plan::owner_of(&service), "{key}");
                assert!(expected.insert(key.clone()), "{key} is two Services'");
            }
        }
        let taken: BTreeSet<_> =
            self.records.keys().filter(|key| !key.starts_with(SERVICES)).cloned().collect();
        assert_eq!(taken, expected);
    }
}

fn ranges(services: &[&str]) -> Ranges {
    let services = services.iter().map(|text| text.parse().unwrap()).collect();
    Ranges { services, node_ports: 30_000..=30_031 }
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "dev"}, "spec": spec})
}

struct Scene {
    ranges: Ranges,
    keys: Keys,
    dice: Dice,
}

fn scene(services: &[&str]) -> Scene {
    Scene { ranges: ranges(services), keys: Keys::default(), dice: Dice::new(3) }
}

impl Scene {
    /// Makes or changes a Service with a ledger that is up to date.
    fn put(&mut self, service: &Value) -> Result<Value, String> {
        let key = format!("{SERVICES}{}", plan::owner_of(service));
        let ledger = self.keys.ledger();
        let old = self.keys.records.get(&key);
        let condition = old.map_or(Condition::Absent, |old| Condition::At(old.modified));
        let plan = match old.map(|old| serde_json::from_slice::<Value>(&old.value).unwrap()) {
            None => plan::create(&self.ranges, &ledger, service, &mut self.dice, NOW),
            Some(old) => plan::update(&self.ranges, &ledger, service, &old, &mut self.dice, NOW),
        };
        let Plan { service, mut operations } = plan.map_err(|error| error.to_string())?;
        let value = Bytes::from(service.to_string());
        operations.push(Operation { key, condition, write: Write::Put(value) });
        assert!(matches!(self.keys.commit(&operations), Outcome::Committed(_)));
        self.keys.check();
        Ok(service)
    }

    fn delete(&mut self, service: &Value) {
        let key = format!("{SERVICES}{}", plan::owner_of(service));
        let at = Condition::At(self.keys.records[&key].modified);
        let mut operations = plan::delete(&self.keys.ledger(), service);
        operations.push(Operation { key, condition: at, write: Write::Delete });
        assert!(matches!(self.keys.commit(&operations), Outcome::Committed(_)));
        self.keys.check();
    }
}

#[test]
fn a_service_gets_what_its_type_needs() {
    let mut scene = scene(&["10.0.0.0/24", "fd00::/112"]);
    let ports = json!([{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80, "nodePort": 30_001}]);
    let plain = scene.put(&service("plain", json!({"ports": ports}))).unwrap();
    assert_eq!(plain["spec"]["clusterIPs"], json!([plain["spec"]["clusterIP"]]));
    let address: IpAddr = plain["spec"]["clusterIP"].as_str().unwrap().parse().unwrap();
    assert!(
        address > "10.0.0.16".parse::<IpAddr>().unwrap(),
        "{address} is for who chooses himself"
    );
    let dual = scene.put(&service("dual", json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 80}]}))).unwrap();
    assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    let number = |index: usize| dual["spec"]["ports"][index]["nodePort"].as_u64().unwrap();
    assert_eq!(number(0), number(1), "DNS by both protocols");
    assert_ne!(number(0), number(2));
    let health = dual["spec"]["healthCheckNodePort"].as_u64().unwrap();
    assert!(![number(0), number(2)].contains(&health));
    for (name, spec) in [
        ("headless", json!({"clusterIP": "None"})),
        ("away", json!({"type": "ExternalName", "externalName": "x"})),
    ] {
        let none = scene.put(&service(name, spec)).unwrap();
        assert_eq!(Claims::of(&none), Claims::default());
    }
    let bare = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]});
    let bare = scene.put(&service("bare", bare)).unwrap();
    assert!(bare["spec"]["ports"][0]["nodePort"].is_null());
    let record = &scene.keys.records[&format!("{ADDRESSES}{address}")];
    let object: Value = serde_json::from_slice(&record.value).unwrap();
    assert_eq!(
        object["spec"]["parentRef"],
        json!({"group": "", "resource": "services", "namespace": "dev", "name": "plain"})
    );
    scene.delete(&dual);
    scene.delete(&plain);
}

#[test]
fn what_is_chosen_is_given_once() {
    let mut scene = scene(&["10.0.0.0/24"]);
    let dns = json!({"clusterIP": "10.0.0.10", "type": "NodePort", "ports": [{"port": 53, "nodePort": 30_000}]});
    scene.put(&service("dns", dns)).unwrap();
    let cases = [
        (
            json!({"clusterIP": "10.0.0.10"}),
            r#"spec.clusterIPs: Invalid value: []string{"10.0.0.10"}: failed to allocate IP 10.0.0.10: provided IP is already allocated"#,
        ),
        (
            json!({"clusterIP": "10.0.1.10"}),
            r#"spec.clusterIPs: Invalid value: []string{"10.0.1.10"}: failed to allocate IP 10.0.1.10: the provided IP (10.0.1.10) is not in the valid range. The range of valid IPs is 10.0.0.0/24"#,
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2, "nodePort": 30_000}]}),
            "spec.ports[1].nodePort: Invalid value: 30000: provided port is already allocated",
        ),
        (
            json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30031",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(scene.put(&service("other", spec)).unwrap_err(), expected);
    }
}

#[test]
fn a_change_keeps_what_it_can_and_gives_back_the_rest() {
    let mut scene = scene(&["10.0.0.0/24", "fd00::/112"]);
    let first = scene
        .put(&service("web", json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]})))
        .unwrap();
    let said = service("web", json!({"type": "NodePort", "ports": [{"port": 81}, {"port": 82}]}));
    let second = scene.put(&said).unwrap();
    assert_eq!(second["spec"]["clusterIP"], first["spec"]["clusterIP"]);
    assert_eq!(second["spec"]["ports"][0]["nodePort"], first["spec"]["ports"][1]["nodePort"]);
    let mut dual = second.clone();
    dual["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
    let dual = scene.put(&dual).unwrap();
    assert_eq!(dual["spec"]["clusterIPs"][0], first["spec"]["clusterIP"]);
    assert_eq!(dual["spec"]["clusterIPs"].as_array().unwrap().len(), 2);
    let mut single = dual.clone();
    single["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    single["spec"]["type"] = json!("ClusterIP");
    let single = scene.put(&single).unwrap();
    assert_eq!(single["spec"]["clusterIPs"], json!([first["spec"]["clusterIP"]]));
    assert_eq!(Claims::of(&single).ports, Vec::<u16>::new());
    let mut away = single.clone();
    away["spec"]["type"] = json!("ExternalName");
    let away = scene.put(&away).unwrap();
    assert_eq!(away["spec"]["clusterIP"], Value::Null);
    assert!(scene.keys.records.keys().all(|key| key.starts_with(SERVICES)), "all is given back");
    let mut back = away;
    back["spec"]["type"] = json!("ClusterIP");
    assert_eq!(Claims::of(&scene.put(&back).unwrap()).addresses.len(), 1);
}

/// The ledger still speaks of a Service that was deleted elsewhere; a new one of the same name asks for the same address.
#[test]
fn an_address_of_an_earlier_service_of_the_same_name_is_taken_anew() {
    let mut scene = scene(&["10.0.0.0/24"]);
    let said = service("web", json!({"clusterIP": "10.0.0.10"}));
    let first = scene.put(&said).unwrap();
    let mut behind = scene.keys.ledger();
    scene.delete(&first);
    let plan = plan::create(&scene.ranges, &behind, &said, &mut scene.dice, NOW).unwrap();
    let Outcome::Refused(0, record) = scene.keys.commit(&plan.operations) else {
        panic!("the key is gone: {plan:?}")
    };
    behind.observe(&plan.operations[0].key, record.as_ref());
    let plan = plan::create(&scene.ranges, &behind, &said, &mut scene.dice, NOW).unwrap();
    assert!(matches!(scene.keys.commit(&plan.operations), Outcome::Committed(_)));
    assert!(scene.keys.records.contains_key(&format!("{ADDRESSES}10.0.0.10")));
}

#[test]
fn other_shapes_are_refused() {
    let mut scene = scene(&["10.0.0.0/24"]);
    let good = scene.put(&service("web", json!({"ports": [{"port": 80}]}))).unwrap();
    for spec in [json!("x"), json!([1]), json!(null), json!({"type": "NodePort", "ports": [7]})] {
        for old in [&Value::Null, &good] {
            let said = service("web", spec.clone());
            let ledger = scene.keys.ledger();
            let plan = plan::update(&scene.ranges, &ledger, &said, old, &mut scene.dice, NOW);
            assert!(matches!(plan, Err(AllocateError::Invalid(_))), "{spec}");
        }
    }
}

#[test]
fn a_full_range_says_so() {
    let mut scene = scene(&["10.0.0.0/29"]);
    for number in 0..6 {
        scene.put(&service(&format!("s{number}"), json!({}))).unwrap();
    }
    let refused = scene.put(&service("more", json!({}))).unwrap_err();
    assert!(
        refused.starts_with("failed to allocate a serviceIP: range is full (IPv4)"),
        "{refused}"
    );
    let ports: Vec<_> = (0..33).map(|port| json!({"port": port + 1})).collect();
    let refused =
        scene.put(&service("s0", json!({"type": "NodePort", "ports": ports}))).unwrap_err();
    assert!(
        refused.starts_with("failed to allocate a nodePort: range is full (30000-30031)"),
        "{refused}"
    );
}

/// A server with a ledger of its own that learns only from what is refused.
fn churn(keys: &Mutex<Keys>, number: u64) -> usize {
    let ranges = ranges(&["10.0.0.0/26"]);
    let (mut ledger, mut dice) = (Ledger::default(), Dice::new(number));
    let (mut mine, mut refused): (Vec<Value>, usize) = (Vec::new(), 0);
    for step in 0..150_u64 {
        if step % 3 == 2
            && let Some(service) = mine.pop()
        {
            let mut keys = keys.lock().unwrap();
            // A ledger that is behind must not give back what is another's.
            ledger = keys.ledger();
            let key = format!("{SERVICES}{}", plan::owner_of(&service));
            let at = Condition::At(keys.records[&key].modified);
            let mut operations = plan::delete(&ledger, &service);
            operations.push(Operation { key, condition: at, write: Write::Delete });
            assert!(matches!(keys.commit(&operations), Outcome::Committed(_)));
            continue;
        }
        let said = service(
            &format!("s{number}-{step}"),
            json!({"type": "NodePort", "ports": [{"port": 80}]}),
        );
        let key = format!("{SERVICES}{}", plan::owner_of(&said));
        loop {
            let Ok(plan) = plan::create(&ranges, &ledger, &said, &mut dice, NOW) else { break };
            // Here a server may die: nothing has been written.
            std::thread::yield_now();
            let mut operations = plan.operations;
            let value = Bytes::from(plan.service.to_string());
            operations.push(Operation {
                key: key.clone(),
                condition: Condition::Absent,
                write: Write::Put(value),
            });
            let outcome = keys.lock().unwrap().commit(&operations);
            match outcome {
                Outcome::Committed(revision) => {
                    ledger.committed(&operations, revision);
                    mine.push(plan.service);
                    break;
                }
                Outcome::Refused(index, record) => {
                    refused += 1;
                    assert!(index + 1 < operations.len(), "only addresses and ports are contested");
                    ledger.observe(&operations[index].key, record.as_ref());
                }
            }
        }
    }
    refused
}

#[test]
fn servers_that_race_never_give_the_same_twice() {
    let keys = Arc::new(Mutex::new(Keys::default()));
    let servers: Vec<_> = (0..8)
        .map(|number| {
            let keys = Arc::clone(&keys);
            std::thread::spawn(move || churn(&keys, number))
        })
        .collect();
    let refused: usize = servers.into_iter().map(|server| server.join().unwrap()).sum();
    assert!(refused > 0, "they did race");
    let keys = keys.lock().unwrap();
    assert!(!keys.services().is_empty());
    keys.check();
}

fn fix(scene: &mut Scene) -> Repair {
    let repair = repair::plan(&scene.ranges, &scene.keys.ledger(), &scene.keys.services(), NOW);
    for operation in &repair.operations {
        assert!(matches!(
            scene.keys.commit(std::slice::from_ref(operation)),
            Outcome::Committed(_)
        ));
    }
    repair
}

#[test]
fn a_good_store_needs_no_repair() {
    let mut scene = scene(&["10.0.0.0/24", "fd00::/112"]);
    scene.put(&service("a", json!({"type": "NodePort", "ports": [{"port": 80}]}))).unwrap();
    scene.put(&service("b", json!({"ipFamilyPolicy": "RequireDualStack"}))).unwrap();
    assert_eq!(fix(&mut scene), Repair::default());
}

#[test]
fn a_repair_takes_what_is_missing_and_frees_what_is_left() {
    let mut scene = scene(&["10.0.0.0/24"]);
    let kept =
        scene.put(&service("a", json!({"type": "NodePort", "ports": [{"port": 80}]}))).unwrap();
    let gone =
        scene.put(&service("b", json!({"type": "NodePort", "ports": [{"port": 80}]}))).unwrap();
    for key in plan::keys(&Claims::of(&kept)) {
        scene.keys.records.remove(&key);
    }
    scene.keys.records.remove(&format!("{SERVICES}{}", plan::owner_of(&gone)));
    let repair = fix(&mut scene);
    assert_eq!((repair.operations.len(), repair.troubles.len()), (4, 0));
    scene.keys.check();
    assert_eq!(fix(&mut scene), Repair::default(), "once is enough");
}

#[test]
fn what_two_services_claim_is_the_holders_or_the_olders() {
    let mut scene = scene(&["10.0.0.0/24"]);
    let address = json!({"clusterIP": "10.0.0.10", "clusterIPs": ["10.0.0.10"]});
    for (name, created) in [("young", "2026-02-01T00:00:00Z"), ("old", "2026-01-01T00:00:00Z")] {
        let mut object = service(name, address.clone());
        object["metadata"]["creationTimestamp"] = json!(created);
        let key = format!("{SERVICES}dev/{name}");
        let write = Write::Put(Bytes::from(object.to_string()));
        scene.keys.commit(&[Operation { key, condition: Condition::Absent, write }]);
    }
    let repair = fix(&mut scene);
    assert_eq!(
        scene.keys.ledger().holding(&format!("{ADDRESSES}10.0.0.10")).unwrap().owner,
        "dev/old"
    );
    let expected = repair::Trouble {
        service: "dev/young".to_owned(),
        reason: "ClusterIPAlreadyAllocated",
        message:
            "Cluster IP [IPv4]:10.0.0.10 was assigned to multiple services; please recreate service"
                .to_owned(),
    };
    assert_eq!(repair.troubles, [expected]);
    let taken = super::ledger::take(
        format!("{ADDRESSES}10.0.0.10"),
        Condition::At(Revision(scene.keys.revision)),
        "dev/young",
        NOW,
    );
    assert!(matches!(scene.keys.commit(&[taken]), Outcome::Committed(_)));
    let repair = fix(&mut scene);
    assert_eq!(repair.troubles[0].service, "dev/old", "who holds it keeps it");
    scene.ranges = ranges(&["10.9.0.0/24"]);
    let reasons: BTreeSet<_> =
        fix(&mut scene).troubles.iter().map(|trouble| trouble.reason).collect();
    assert!(reasons.contains("ClusterIPOutOfRange"), "{reasons:?}");
}
