//! Both variants of iptables, in namespaces: what the kernel holds is what was asked for.

use netns_tools::iptables::Backend as Variant;
use netns_tools::nfacct::PacketCounters;
use netns_tools::testing::TestNetns;

use super::incremental::in_order;
use super::*;
use crate::proxy::model::ServiceName;

const VARIANTS: [Variant; 2] = [Variant::Nft, Variant::Legacy];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn in_each(test: impl Fn(Iptables, Family) + Sync) {
    for variant in VARIANTS {
        for family in FAMILIES {
            let ns = TestNetns::new("pipt");
            let program = Iptables::variant(family, variant).expect("both variants are installed");
            ns.run(|| test(program, family));
        }
    }
}

/// Every kind of service at once.
fn everything(family: Family) -> Model {
    let mut model = model();
    let (ip, ext, lb, range, endpoint) = match family {
        Family::V4 => ("10.96.0.", "198.51.100.", "192.0.2.", "203.0.113.0/24", "10.244.0."),
        Family::V6 => ("fd00:96::", "2001:db8:1::", "2001:db8:2::", "2001:db8:3::/64", "fd00:10::"),
    };
    let policies = ["Cluster", "Local"];
    for number in 0..8usize {
        let (internal, external) = (policies[number & 1], policies[number >> 1 & 1]);
        let affinity = if number & 4 == 0 { "None" } else { "ClientIP" };
        let spec = json!({
            "type": "LoadBalancer", "clusterIP": format!("{ip}{number}"), "externalIPs": [format!("{ext}{number}")],
            "ports": [{"port": 80, "nodePort": 30000 + number}], "internalTrafficPolicy": internal,
            "externalTrafficPolicy": external, "sessionAffinity": affinity, "ingress": [{"ip": format!("{lb}{number}")}],
            "loadBalancerSourceRanges": [range], "healthCheckNodePort": 32000 + number,
        });
        let name = format!("s{number}");
        model.set_service(service(&name, spec));
        // of four services each one without endpoints, one with endpoints elsewhere only
        let endpoints = match number & 3 {
            0 => String::new(),
            3 => format!("{endpoint}{number}@n2"),
            _ => format!("{endpoint}{number}@n1 {endpoint}1{number}@n2 {endpoint}2{number}@n2"),
        };
        if !endpoints.is_empty() {
            model.set_slice(slice(&name, &endpoints));
        }
    }
    model
}

fn saved(program: &mut Iptables) -> Ruleset {
    let tables = ["filter", "mangle", "nat"];
    Ruleset { tables: tables.map(|table| (table.to_owned(), program.save(table).unwrap())).into() }
}

/// The rules by what they do: each variant prints them in its own order of options.
fn meanings(ruleset: &Ruleset) -> Vec<(String, Vec<u64>)> {
    let ruleset = in_order(ruleset);
    let chains = ruleset.tables.iter().flat_map(|(table, content)| {
        content.chains.keys().map(move |chain| {
            let hashes = content.rules(chain).into_iter().map(|rule| canonical::hash(&rule, true));
            let mut hashes: Vec<_> = hashes.collect();
            if let Some(shared) = Shared::find(table, chain) {
                let last = usize::from(shared == Shared::NatServices);
                let services = hashes.len().saturating_sub(last);
                hashes[..services].sort_unstable();
            }
            (format!("{table} {chain}"), hashes)
        })
    });
    // the legacy table nat has a chain that others have not got in old kernels
    chains.filter(|(_, rules)| !rules.is_empty()).collect()
}

fn expect(program: &mut Iptables, model: &Model, family: Family) {
    let abilities = Abilities { random_fully: true, counters: true };
    let wanted = ruleset(family, model.ports(family), &options(), abilities);
    let found = saved(program);
    for (wanted, found) in meanings(&wanted).iter().zip(&meanings(&found)) {
        assert_eq!(wanted, found);
    }
    assert_eq!(meanings(&wanted).len(), meanings(&found).len());
}

#[test]
fn the_kernel_holds_what_is_wanted_and_a_second_look_finds_nothing_to_do() {
    in_each(|mut program, family| {
        let model = everything(family);
        let mut backend = IptablesBackend::of(program.clone());
        let report = backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        assert!(report.full && report.changes > 50, "{report:?}");
        expect(&mut program, &model, family);
        assert!(backend.is_intact().unwrap());
        assert_eq!(backend.plan(model.ports(family), &options()).unwrap(), "");
        let compared = backend.compare(model.ports(family), &options(), &|_| true).unwrap();
        assert_eq!(compared.desired, compared.actual);
        // a new process adopts them
        let mut second = IptablesBackend::of(program.clone());
        let again = second.sync(model.ports(family), &options(), Scope::Full).unwrap();
        assert_eq!((again.changes, again.rules), (0, report.rules));
    });
}

type Step = fn(&mut Model, &str);

#[test]
fn step_by_step() {
    in_each(|mut program, family| {
        let mut model = everything(family);
        let mut backend = IptablesBackend::of(program.clone());
        backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        model.take_changes();
        let endpoint = if family == Family::V4 { "10.244.0." } else { "fd00:10::" };
        let steps: [Step; 5] = [
            |model, at| model.set_slice(slice("s1", &format!("{at}1@n1 {at}99@n1"))),
            |model, at| model.set_slice(slice("s0", &format!("{at}50@n2"))),
            |model, _| model.remove_service(&ServiceName::new("default", "s5")),
            |model, at| model.set_slice(slice("s6", &format!("{at}6@n2"))),
            |model, _| model.remove_service(&ServiceName::new("default", "s3")),
        ];
        for step in steps {
            step(&mut model, endpoint);
            let changes = model.take_changes();
            let scope = Scope::Changed(changes.of(family));
            let report = backend.sync(model.ports(family), &options(), scope).unwrap();
            assert!(!report.full && report.changes > 0, "{report:?}");
            expect(&mut program, &model, family);
            assert!(backend.is_intact().unwrap());
        }
        assert_eq!(backend.plan(model.ports(family), &options()).unwrap(), "");
    });
}

#[test]
fn a_flush_is_noticed_and_repaired() {
    in_each(|mut program, family| {
        let model = everything(family);
        let mut backend = IptablesBackend::of(program.clone());
        backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        let canary = "*mangle\n-X KUBE-PROXY-CANARY\nCOMMIT\n";
        for flush in ["*nat\n-F\nCOMMIT\n", "*filter\n-F INPUT\nCOMMIT\n", canary] {
            program.restore(&flush).unwrap();
            assert!(!backend.is_intact().unwrap(), "{flush}");
            backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
            expect(&mut program, &model, family);
            assert!(backend.is_intact().unwrap());
        }
    });
}

#[test]
fn foreign_rules_are_as_they_were_byte_for_byte() {
    in_each(|mut program, family| {
        let host = if family == Family::V4 { "192.0.2.9/32" } else { "2001:db8::9/128" };
        let foreign = format!(
            "*filter\n:FOREIGN - [0:0]\n-A FORWARD -s {host} -m comment --comment \"it's -j KUBE-SERVICES\" -j DROP\n\
             -A FOREIGN -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n\
             *mangle\n:KUBE-KUBELET-CANARY - [0:0]\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n\
             *nat\n:CNI-A - [0:0]\n:KUBE-MARK-DROP - [0:0]\n-A PREROUTING -m comment --comment \"a b\" -j CNI-A\nCOMMIT\n"
        );
        program.restore(&foreign).unwrap();
        let before = saved(&mut program);
        let mut model = everything(family);
        // with a kubelet here, KUBE-FIREWALL is not ours to take away
        let options = RuleOptions { localhost_node_ports: false, ..options() };
        let mut backend = IptablesBackend::of(program.clone());
        backend.sync(model.ports(family), &options, Scope::Full).unwrap();
        model.take_changes();
        model.remove_service(&ServiceName::new("default", "s2"));
        let changes = model.take_changes();
        let scope = Scope::Changed(changes.of(family));
        backend.sync(model.ports(family), &options, scope).unwrap();
        let with_ours = saved(&mut program).to_string();
        for line in before.to_string().lines().filter(|line| line.starts_with("-A")) {
            assert!(with_ours.contains(line), "{line}");
        }
        backend.cleanup().unwrap();
        assert_eq!(saved(&mut program).to_string(), before.to_string());
        backend.cleanup().unwrap();
    });
}

/// What the kernel refuses leaves the rules of before in force, and the next sync looks at everything.
#[test]
fn a_refused_commit_is_made_up_for() {
    in_each(|mut program, family| {
        let mut model = everything(family);
        let mut backend = IptablesBackend::of(program.clone());
        backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        let nat = saved(&mut program).tables["nat"].to_string();
        // somebody took away the rule that is to be deleted
        let shared = Shared::NatServices.chain();
        let rules = program.save("nat").unwrap().rules(shared);
        let gone = rules.iter().find(|rule| rule.contains("default/s5 ")).unwrap();
        program.restore(&format!("*nat\n-D {shared} {gone}\nCOMMIT\n")).unwrap();
        let taken = saved(&mut program).tables["nat"].to_string();
        assert_ne!(nat, taken);
        model.take_changes();
        model.remove_service(&ServiceName::new("default", "s5"));
        let changes = model.take_changes();
        let scope = Scope::Changed(changes.of(family));
        let error = backend.sync(model.ports(family), &options(), scope).unwrap_err();
        assert!(std::error::Error::source(&error).is_some(), "{error}");
        assert_eq!(saved(&mut program).tables["nat"].to_string(), taken);
        assert!(!backend.is_intact().unwrap());
        let nothing = Changed::new();
        let report = backend.sync(model.ports(family), &options(), Scope::Changed(&nothing));
        assert!(report.unwrap().full);
        expect(&mut program, &model, family);
    });
}

/// Killed in the middle of a first sync: some chains are there, and nothing leads to them.
#[test]
fn half_of_the_chains_are_there() {
    in_each(|mut program, family| {
        let model = everything(family);
        let mut backend = IptablesBackend::of(program.clone());
        let plan = backend.plan(model.ports(family), &options()).unwrap();
        let nat = plan.split_once("*nat\n").unwrap().1;
        let chains: Vec<_> = nat.lines().filter(|line| line.starts_with(":KUBE-S")).collect();
        let half = chains[chains.len() / 2..].join("\n");
        program.restore(&format!("*nat\n{half}\nCOMMIT\n")).unwrap();
        backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        expect(&mut program, &model, family);
    });
}

/// The counters are there as long as rules name them, and go with clean-up.
#[test]
fn packets_are_counted_under_kube_proxys_names() {
    in_each(|mut program, family| {
        let mut counters = PacketCounters::open().unwrap();
        let model = everything(family);
        let mut backend = IptablesBackend::of(program.clone());
        let plan = backend.plan(model.ports(family), &options()).unwrap();
        assert!(plan.contains("--nfacct-name ct_state_invalid_dropped_pkts -j DROP"), "{plan}");
        assert_eq!(counters.get(counters::INVALID).unwrap(), None, "a plan changes nothing");
        backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        let rules = saved(&mut program).to_string();
        let of_localhost = rules.matches("localhost_nps_accepted_pkts").count();
        // of eight services, those with any endpoint, and 127.0.0.1 is of IPv4 only
        assert_eq!(of_localhost, if family == Family::V4 { 6 } else { 0 }, "{rules}");
        let zero = netns_tools::nfacct::Count::default();
        for name in [counters::INVALID, counters::LOCALHOST] {
            assert_eq!(counters.get(name).unwrap(), Some(zero), "{name}");
        }
        backend.cleanup().unwrap();
        for name in [counters::INVALID, counters::LOCALHOST] {
            assert_eq!(counters.get(name).unwrap(), None, "{name}");
        }
        // somebody flushed rules and counters alike
        backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        expect(&mut program, &model, family);
    });
}

#[test]
fn a_host_with_rules_of_both_variants_is_refused() {
    let ns = TestNetns::new("pipt");
    ns.run(|| {
        for variant in VARIANTS {
            let mut program = Iptables::variant(Family::V4, variant).unwrap();
            program.restore(&"*filter\n-A INPUT -j ACCEPT\nCOMMIT\n").unwrap();
        }
        let error = IptablesBackend::detect(Family::V4).err().unwrap().to_string();
        assert!(
            error.contains("iptables-legacy") && error.contains("iptables-nft-save"),
            "{error}"
        );
    });
}

/// What comes later is told, and keeps no service from being served.
#[test]
fn rules_of_the_other_variant_that_come_later_are_doubted() {
    for (own, other) in [(Variant::Nft, Variant::Legacy), (Variant::Legacy, Variant::Nft)] {
        let ns = TestNetns::new("pipt");
        ns.run(|| {
            let model = everything(Family::V4);
            let ports = model.ports(Family::V4);
            let mut backend = IptablesBackend::of(Iptables::variant(Family::V4, own).unwrap());
            backend.sync(ports, &options(), Scope::Full).unwrap();
            assert_eq!(backend.doubts(), [""; 0], "{own:?}");
            let mut other = Iptables::variant(Family::V4, other).unwrap();
            other.restore(&"*filter\n-A INPUT -j ACCEPT\nCOMMIT\n").unwrap();
            assert_eq!(backend.sync(ports, &options(), Scope::Full).unwrap().changes, 0);
            let doubts = backend.doubts();
            assert_eq!(doubts.len(), 1, "{own:?}");
            assert!(
                doubts[0].contains("neither sees the other's: look at them with"),
                "{doubts:?}"
            );
        });
    }
}
