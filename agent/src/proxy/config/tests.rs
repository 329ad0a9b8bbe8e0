use std::time::Duration;

use netns_tools::iptables::Family;
use serde_json::{Value, json};

use super::layer::Layer;
use super::*;
use crate::proxy::model::Node;
use crate::proxy::options::{LocalTraffic, NodePortAddresses};

const KUBEADM: &str = include_str!("fixtures/kubeadm.yaml");
const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn flags(given: &[(&str, &str)]) -> Layer {
    let given: Vec<_> =
        given.iter().map(|(flag, text)| ((*flag).to_owned(), vec![(*text).to_owned()])).collect();
    Layer::flags(&given)
}

fn of_file(text: &str) -> Result<Loaded, Vec<String>> {
    of([Layer::text(text, "F"), Layer::default()])
}

fn of(layers: [Layer; 2]) -> Result<Loaded, Vec<String>> {
    check::check(layers, None, "Node-1").map_err(written)
}

fn written(mistakes: Vec<Mistake>) -> Vec<String> {
    mistakes.iter().map(ToString::to_string).collect()
}

fn with(text: &str) -> Result<Loaded, Vec<String>> {
    of_file(&format!("{HEAD}{text}"))
}

fn by_flags(given: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
    of([Layer::default(), flags(given)])
}

fn defaults() -> ProxyConfig {
    by_flags(&[]).unwrap().config
}

#[test]
fn without_a_word_it_is_as_kube_proxy_is() {
    let config = defaults();
    let expected = ProxyConfig {
        mode: Mode::Iptables,
        node_name: "node-1".into(),
        api: ApiAccess::default(),
        bind_address: None,
        healthz: Some("0.0.0.0:10256".parse().unwrap()),
        metrics: Some("127.0.0.1:10249".parse().unwrap()),
        bind_hard_fail: false,
        masquerade_bit: 14,
        masquerade_all: false,
        localhost_node_ports: true,
        detect_local: DetectLocal::ClusterCidr(Vec::new()),
        node_ports: NodePortSelection { all: true, primary: false, ranges: Vec::new() },
        pace: Pace { least: Duration::ZERO, resync: Duration::from_secs(30) },
        conntrack: ConntrackConfig {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established_timeout: Duration::from_hours(24),
            tcp_close_wait_timeout: Duration::from_hours(1),
            tcp_be_liberal: false,
            udp_timeout: Duration::ZERO,
            udp_stream_timeout: Duration::ZERO,
        },
        oom_score_adj: -999,
        log: LogSettings { verbosity: 0, json: false },
    };
    assert_eq!(config, expected);
}

#[test]
fn kubeadms_file_with_all_its_zeros_means_the_defaults() {
    let loaded = of_file(KUBEADM).unwrap();
    let expected = ProxyConfig {
        api: ApiAccess {
            kubeconfig: Some("/var/lib/kube-proxy/kubeconfig.conf".into()),
            master: None,
        },
        detect_local: DetectLocal::ClusterCidr(vec!["10.244.0.0/16".parse().unwrap()]),
        ..defaults()
    };
    assert_eq!(loaded.config, expected);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn every_field_is_taken_from_the_file() {
    let loaded = with(
        "mode: nftables\nhostnameOverride: Other\nbindAddress: 'fd00::1'\nhealthzBindAddress: '[::]:1'\nmetricsBindAddress: 10.0.0.1\n\
         bindAddressHardFail: true\nnftables: {masqueradeBit: 0, masqueradeAll: true, syncPeriod: 1m, minSyncPeriod: 1.5s}\n\
         iptables: {masqueradeBit: 3, localhostNodePorts: false}\ndetectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}\n\
         nodePortAddresses: [10.1.2.3/8, primary]\noomScoreAdj: 0\nlogging: {format: json, verbosity: 5, flushFrequency: 5000000000}\n\
         conntrack: {maxPerCore: 0, min: 7, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 5m, tcpBeLiberal: true, udpTimeout: 10s, udpStreamTimeout: 20s}\n\
         clientConnection: {kubeconfig: /k}\n",
    );
    let loaded = loaded.unwrap();
    let expected = ProxyConfig {
        mode: Mode::Nftables,
        node_name: "other".into(),
        api: ApiAccess { kubeconfig: Some("/k".into()), master: None },
        bind_address: Some("fd00::1".parse().unwrap()),
        healthz: Some("[::]:1".parse().unwrap()),
        metrics: Some("10.0.0.1:10249".parse().unwrap()),
        bind_hard_fail: true,
        masquerade_bit: 0,
        masquerade_all: true,
        localhost_node_ports: false,
        detect_local: DetectLocal::Bridge("cni0".into()),
        node_ports: NodePortSelection {
            all: false,
            primary: true,
            ranges: vec!["10.0.0.0/8".parse().unwrap()],
        },
        pace: Pace { least: Duration::from_millis(1500), resync: Duration::from_mins(1) },
        conntrack: ConntrackConfig {
            max_per_core: 0,
            min: 7,
            tcp_established_timeout: Duration::ZERO,
            tcp_close_wait_timeout: Duration::from_mins(5),
            tcp_be_liberal: true,
            udp_timeout: Duration::from_secs(10),
            udp_stream_timeout: Duration::from_secs(20),
        },
        oom_score_adj: 0,
        log: LogSettings { verbosity: 5, json: true },
    };
    assert_eq!(loaded.config, expected);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of every flag")]
fn each_flag_sets_what_it_says() {
    let base = defaults;
    let pace = |least, resync| Pace {
        least: Duration::from_secs(least),
        resync: Duration::from_secs(resync),
    };
    let conntrack = |change: fn(&mut ConntrackConfig)| {
        let mut settings = base().conntrack;
        change(&mut settings);
        ProxyConfig { conntrack: settings, ..base() }
    };
    let table: Vec<(&[(&str, &str)], ProxyConfig)> = vec![
        (&[("proxy-mode", "iptables")], base()),
        (&[("hostname-override", "x")], ProxyConfig { node_name: "x".into(), ..base() }),
        (&[("node-name", "x")], ProxyConfig { node_name: "x".into(), ..base() }),
        (
            &[("kubeconfig", "/k")],
            ProxyConfig {
                api: ApiAccess { kubeconfig: Some("/k".into()), master: None },
                ..base()
            },
        ),
        (&[("masquerade-all", "true")], ProxyConfig { masquerade_all: true, ..base() }),
        (&[("iptables-masquerade-bit", "31")], ProxyConfig { masquerade_bit: 31, ..base() }),
        (&[("iptables-masquerade-bit", "0")], ProxyConfig { masquerade_bit: 0, ..base() }),
        (&[("iptables-sync-period", "1h")], ProxyConfig { pace: pace(0, 3600), ..base() }),
        (&[("iptables-min-sync-period", "2s")], ProxyConfig { pace: pace(2, 30), ..base() }),
        (
            &[("iptables-localhost-nodeports", "false")],
            ProxyConfig { localhost_node_ports: false, ..base() },
        ),
        (
            &[("nodeport-addresses", "10.0.0.0/8,fd00::/8")],
            ProxyConfig {
                node_ports: NodePortSelection {
                    ranges: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
                    ..NodePortSelection::default()
                },
                ..base()
            },
        ),
        (
            &[("detect-local-mode", "NodeCIDR")],
            ProxyConfig { detect_local: DetectLocal::NodeCidr, ..base() },
        ),
        (
            &[("detect-local-mode", "InterfaceNamePrefix"), ("pod-interface-name-prefix", "veth")],
            ProxyConfig { detect_local: DetectLocal::InterfacePrefix("veth".into()), ..base() },
        ),
        (
            &[("detect-local-mode", "BridgeInterface"), ("pod-bridge-interface", "cni0")],
            ProxyConfig { detect_local: DetectLocal::Bridge("cni0".into()), ..base() },
        ),
        (
            &[("cluster-cidr", "10.244.0.0/16,fd00:10:244::/48")],
            ProxyConfig {
                detect_local: DetectLocal::ClusterCidr(vec![
                    "10.244.0.0/16".parse().unwrap(),
                    "fd00:10:244::/48".parse().unwrap(),
                ]),
                ..base()
            },
        ),
        (&[("healthz-bind-address", "")], ProxyConfig { healthz: None, ..base() }),
        (&[("metrics-bind-address", "")], ProxyConfig { metrics: None, ..base() }),
        (
            &[("metrics-bind-address", "0.0.0.0")],
            ProxyConfig { metrics: Some("0.0.0.0:10249".parse().unwrap()), ..base() },
        ),
        (
            &[("bind-address", "::")],
            ProxyConfig {
                healthz: Some("[::]:10256".parse().unwrap()),
                metrics: Some("[::1]:10249".parse().unwrap()),
                ..base()
            },
        ),
        (
            &[("bind-address", "10.0.0.7")],
            ProxyConfig { bind_address: Some("10.0.0.7".parse().unwrap()), ..base() },
        ),
        (&[("bind-address-hard-fail", "true")], ProxyConfig { bind_hard_fail: true, ..base() }),
        (&[("oom-score-adj", "-1000")], ProxyConfig { oom_score_adj: -1000, ..base() }),
        (&[("conntrack-max-per-core", "0")], conntrack(|c| c.max_per_core = 0)),
        (&[("conntrack-min", "1")], conntrack(|c| c.min = 1)),
        (
            &[("conntrack-tcp-timeout-established", "0")],
            conntrack(|c| c.tcp_established_timeout = Duration::ZERO),
        ),
        (
            &[("conntrack-tcp-timeout-close-wait", "1m")],
            conntrack(|c| c.tcp_close_wait_timeout = Duration::from_mins(1)),
        ),
        (&[("conntrack-tcp-be-liberal", "true")], conntrack(|c| c.tcp_be_liberal = true)),
        (&[("conntrack-udp-timeout", "9s")], conntrack(|c| c.udp_timeout = Duration::from_secs(9))),
        (
            &[("conntrack-udp-timeout-stream", "9s")],
            conntrack(|c| c.udp_stream_timeout = Duration::from_secs(9)),
        ),
        (&[("config-sync-period", "1s")], base()),
        (&[("v", "4")], ProxyConfig { log: LogSettings { verbosity: 4, json: false }, ..base() }),
        (
            &[("logging-format", "json")],
            ProxyConfig { log: LogSettings { verbosity: 0, json: true }, ..base() },
        ),
    ];
    for (given, expected) in table {
        assert_eq!(by_flags(given).unwrap().config, expected, "{given:?}");
    }
}

#[test]
fn flags_of_the_rules_hold_in_either_mode() {
    let given = [
        ("mode", "nftables"),
        ("masquerade-all", "true"),
        ("iptables-masquerade-bit", "3"),
        ("iptables-sync-period", "1m"),
        ("iptables-min-sync-period", "1s"),
    ];
    let config = by_flags(&given).unwrap().config;
    assert_eq!(
        (config.mode, config.masquerade_all, config.masquerade_bit),
        (Mode::Nftables, true, 3)
    );
    assert_eq!(config.pace, Pace { least: Duration::from_secs(1), resync: Duration::from_mins(1) });
    // as kube-proxy: node ports at the primary address only
    assert!(config.node_ports.primary && !config.node_ports.all);
}

#[test]
fn a_flag_wins_over_the_file() {
    let file = Layer::text(&format!("{HEAD}mode: nftables\nclusterCIDR: 10.0.0.0/8\n"), "F");
    let loaded = of([file, flags(&[("proxy-mode", "iptables")])]).unwrap();
    assert_eq!(loaded.config.mode, Mode::Iptables);
    assert_eq!(
        loaded.config.detect_local,
        DetectLocal::ClusterCidr(vec!["10.0.0.0/8".parse().unwrap()])
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of every mistake")]
fn each_mistake_has_its_place_and_a_remedy() {
    let table = [
        (
            "foo: 1\n",
            "F: foo: there is no such field in kubeproxy.config.k8s.io/v1alpha1; remove it",
        ),
        (
            "masqueradeBit: 1\n",
            "F: masqueradeBit: there is no such field; did you mean iptables.masqueradeBit?",
        ),
        ("iptables: {masquradeBit: 1}\n", "F: iptables.masquradeBit: there is no such field in"),
        ("iptables: 7\n", "F: iptables: must be an object"),
        (
            "iptables: {masqueradeBit: 32}\n",
            "F: iptables.masqueradeBit: 32 is not a whole number from 0 to 31",
        ),
        (
            "iptables: {masqueradeBit: '1'}\n",
            "F: iptables.masqueradeBit: \"1\" is not a whole number from 0 to 31",
        ),
        (
            "iptables: {syncPeriod: 30}\n",
            "F: iptables.syncPeriod: 30 is not a duration such as \"30s\" or \"1h0m0s\"",
        ),
        (
            "iptables: {syncPeriod: 1s, minSyncPeriod: 2s}\n",
            "F: iptables.syncPeriod: must not be less than minSyncPeriod, which is 2s",
        ),
        (
            "mode: ipvs\n",
            "F: mode: mode ipvs is not offered, and Kubernetes gives it up; use iptables or nftables",
        ),
        (
            "mode: kernelspace\n",
            "F: mode: mode kernelspace is for Windows; use iptables or nftables",
        ),
        ("mode: userspace\n", "F: mode: \"userspace\" is no mode; use iptables or nftables"),
        ("mode: 1\n", "F: mode: 1 is not text; write it in quotes"),
        (
            "clusterCIDR: 10.0.0.0\n",
            "F: clusterCIDR: \"10.0.0.0\" is no range such as 10.244.0.0/16",
        ),
        (
            "clusterCIDR: 10.0.0.0/8,11.0.0.0/8\n",
            "F: clusterCIDR: \"10.0.0.0/8,11.0.0.0/8\" has more than one range of a family",
        ),
        ("nodePortAddresses: [home]\n", "F: nodePortAddresses: \"home\" is neither a range"),
        (
            "nodePortAddresses: primary\n",
            "F: nodePortAddresses: \"primary\" is not a list of texts",
        ),
        (
            "detectLocalMode: Magic\n",
            "F: detectLocalMode: \"Magic\" is not one of ClusterCIDR, NodeCIDR",
        ),
        (
            "detectLocalMode: BridgeInterface\n",
            "detectLocal.bridgeInterface: is needed by this detectLocalMode; set it",
        ),
        (
            "detectLocal: {interfaceNamePrefix: 'a b'}\n",
            "F: detectLocal.interfaceNamePrefix: \"a b\" is not the name of an interface",
        ),
        (
            "detectLocal: {bridgeInterface: abcdefghijklmnop}\n",
            "F: detectLocal.bridgeInterface: \"abcdefghijklmnop\" is not the name",
        ),
        (
            "healthzBindAddress: nowhere\n",
            "F: healthzBindAddress: \"nowhere\" is no address and port such as \"0.0.0.0:10256\"",
        ),
        (
            "metricsBindAddress: '10.0.0.1:0'\n",
            "F: metricsBindAddress: \"10.0.0.1:0\" is no address and port",
        ),
        ("bindAddress: me\n", "F: bindAddress: \"me\" is no IP address"),
        ("oomScoreAdj: 1001\n", "F: oomScoreAdj: 1001 is not a whole number from -1000 to 1000"),
        ("hostnameOverride: a_b\n", "F: hostnameOverride: \"a_b\" is not the name of a Node"),
        ("logging: {format: xml}\n", "F: logging.format: \"xml\" is not text or json"),
        (
            "logging: {vmodule: [{a: 1}]}\n",
            "F: logging.vmodule: [{\"a\":1}] is not a list of {filePattern, verbosity}",
        ),
        (
            "featureGates: {A: 1}\n",
            "F: featureGates: {\"A\":1} is not a map of names to true or false",
        ),
        ("conntrack: {min: -1}\n", "F: conntrack.min: -1 is not a whole number from 0"),
        ("mode: a\nmode: b\n", "F: is not valid YAML: "),
        (": {\n", "F: is not valid YAML: "),
        ("---\nmore: 1\n", "F: is not valid YAML: "),
    ];
    for (text, expected) in table {
        let mistakes = with(text).map(|loaded| loaded.config).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
        assert!(mistakes[0].starts_with(expected), "{text}: {}", mistakes[0]);
    }
}

#[test]
fn mistakes_of_flags_name_the_flag_and_come_once() {
    let table = [
        (
            "iptables-masquerade-bit",
            "32",
            "--iptables-masquerade-bit: \"32\" is not a whole number from 0 to 31",
        ),
        (
            "iptables-sync-period",
            "0",
            "--iptables-sync-period: must be more than 0, such as \"30s\"",
        ),
        ("proxy-mode", "ipvs", "--proxy-mode: mode ipvs is not offered"),
        ("masquerade-all", "yes", "--masquerade-all: \"yes\" is not true or false"),
        ("cluster-cidr", "x", "--cluster-cidr: \"x\" is no range"),
        ("feature-gates", "A", "--feature-gates: \"A\" is not a map"),
        ("vmodule", "a=b", "--vmodule: \"a=b\" is not a list"),
        ("v", "-1", "--v: \"-1\" is not a whole number"),
    ];
    for (flag, text, expected) in table {
        let mistakes = by_flags(&[(flag, text)]).map(|loaded| loaded.config).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{flag}: {mistakes:?}");
        assert!(mistakes[0].starts_with(expected), "{}", mistakes[0]);
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let file = Layer::text("apiVersion: v1\nmode: 7\niptables: {x: 1, syncPeriod: never}\n", "F");
    let mistakes = of([file, flags(&[("cluster-cidr", "x"), ("v", "much")])]).unwrap_err();
    let places: Vec<_> =
        mistakes.iter().map(|mistake| mistake.split(": ").take(2).collect::<Vec<_>>()).collect();
    let expected = [
        ["F", "apiVersion"],
        ["F", "kind"],
        ["F", "iptables.syncPeriod"],
        ["F", "iptables.x"],
        ["F", "mode"],
        ["--v", "\"much\" is not a whole number from 0 to 4294967295"],
        ["--cluster-cidr", "\"x\" is no range such as 10.244.0.0/16 or fd00:10:244::/48"],
    ];
    let mut sorted = (places, expected.map(|place| place.to_vec()).to_vec());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);
}

#[test]
fn what_would_matter_and_is_not_done_is_said() {
    let cidr = "clusterCIDR: 10.0.0.0/8\n";
    let table = [
        ("", None),
        ("featureGates: {A: false}\n", None),
        ("ipvs: {scheduler: lc, strictARP: true}\nwinkernel: {enableDSR: true}\n", None),
        (
            "clientConnection: {qps: 50, burst: 100, contentType: application/json}\nconfigSyncPeriod: 1m\n",
            None,
        ),
        (
            "featureGates: {A: true}\n",
            Some("F: featureGates: has no effect: there are no feature gates here"),
        ),
        ("enableProfiling: true\n", Some("F: enableProfiling: has no effect: ")),
        (
            "showHiddenMetricsForVersion: '1.30'\n",
            Some("F: showHiddenMetricsForVersion: has no effect"),
        ),
        (
            "logging: {vmodule: [{filePattern: a, verbosity: 1}]}\n",
            Some("F: logging.vmodule: has no effect"),
        ),
        (
            "iptables: {snatNodeInternalIP: true}\n",
            Some("F: iptables.snatNodeInternalIP: has no effect"),
        ),
        (
            "mode: nftables\nnodePortAddresses: [localhost]\n",
            Some("nodePortAddresses: node ports do not answer at loopback"),
        ),
    ];
    for (text, expected) in table {
        let warnings = with(&format!("{cidr}{text}")).unwrap().warnings;
        match expected {
            None => assert_eq!(warnings, Vec::<String>::new(), "{text}"),
            Some(expected) => {
                assert!(warnings.len() == 1 && warnings[0].starts_with(expected), "{warnings:?}");
            }
        }
    }
}

#[test]
fn the_document_has_every_field_and_reads_as_the_same_configuration() {
    for text in [
        KUBEADM.to_owned(),
        format!(
            "{HEAD}mode: nftables\niptables: {{syncPeriod: 90s}}\nnodePortAddresses: [10.0.0.0/8]\noomScoreAdj: 0\n"
        ),
    ] {
        let first = of_file(&text).unwrap();
        for field in FIELDS {
            let pointer = format!("/{}", field.path.replace('.', "/"));
            assert!(first.document.pointer(&pointer).is_some(), "{}", field.path);
        }
        let again = of_file(&first.document.to_string()).unwrap();
        assert_eq!((&again.config, &again.document), (&first.config, &first.document));
    }
    let document = of_file(KUBEADM).unwrap().document;
    assert_eq!(document["iptables"]["syncPeriod"], "30s");
    assert_eq!(document["conntrack"]["tcpEstablishedTimeout"], "24h0m0s");
    assert_eq!(document["hostnameOverride"], "node-1");
    assert_eq!(document["metricsBindAddress"], "127.0.0.1:10249");
}

#[test]
fn the_tables_defaults_are_of_their_kinds() {
    for field in FIELDS {
        let value = match field.kind {
            Kind::Text | Kind::Duration | Kind::DurationOrNanoseconds => json!(field.default),
            _ => serde_json::from_str::<Value>(field.default).unwrap(),
        };
        let text = format!("{HEAD}{}", nested(field.path, &value));
        let layer = Layer::text(&text, "F");
        assert_eq!(layer.mistakes, Vec::new(), "{text}");
    }
}

fn nested(path: &str, value: &Value) -> String {
    match path.split_once('.') {
        None => format!("{path}: {value}\n"),
        Some((section, rest)) => format!("{section}: {{{}}}\n", nested(rest, value).trim_end()),
    }
}

#[test]
fn node_ports_answer_where_they_should() {
    let host: Vec<IpAddr> = ["127.0.0.1", "10.0.0.1", "192.168.0.1", "::1", "fd00::1"]
        .map(|ip| ip.parse().unwrap())
        .to_vec();
    let node = Node {
        addresses: vec!["192.168.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        ..Node::named("n")
    };
    let any = NodePortAddresses::Any;
    let listed = |ips: &[&str]| {
        NodePortAddresses::Listed(ips.iter().map(|ip| ip.parse().unwrap()).collect())
    };
    // mode, asked, expected, whether 127.0.0.1 is served
    let table = [
        ("iptables", "", any.clone(), true),
        ("nftables", "", listed(&["192.168.0.1", "fd00::1"]), false),
        ("nftables", "all", any.clone(), false),
        ("iptables", "0.0.0.0/0", any.clone(), true),
        // nothing is said of IPv6: all of it
        ("iptables", "10.0.0.0/8", listed(&["10.0.0.1", "::1", "fd00::1"]), false),
        ("iptables", "10.0.0.0/8,fd00::/8", listed(&["10.0.0.1", "fd00::1"]), false),
        ("iptables", "localhost", listed(&["127.0.0.1", "::1"]), true),
        ("iptables", "primary", listed(&["192.168.0.1", "fd00::1"]), false),
        ("iptables", "primary,10.0.0.0/8", listed(&["10.0.0.1", "192.168.0.1", "fd00::1"]), false),
        ("iptables", "172.16.0.0/12,fc00:1::/32", listed(&[]), false),
        // some of the loopback range counts, as in kube-proxy, whether this host has such an address now or not
        ("iptables", "127.0.0.2/32,fc00:1::/32", listed(&[]), true),
        ("iptables", "126.0.0.0/7,fc00:1::/32", listed(&["127.0.0.1"]), true),
    ];
    for (mode, asked, expected, localhost) in table {
        let config = by_flags(&[("mode", mode), ("nodeport-addresses", asked)]).unwrap().config;
        let options = config.rule_options(&node, &host);
        assert_eq!(options.node_ports, expected, "{mode} {asked}");
        assert_eq!(options.localhost_node_ports, localhost, "{mode} {asked}");
    }
    let config = by_flags(&[("mode", "nftables"), ("bind-address", "10.0.0.1")]).unwrap().config;
    assert_eq!(config.rule_options(&node, &host).node_ports, listed(&["10.0.0.1", "fd00::1"]));
    assert_eq!(config.primary_address(Family::V4, &node), Some("10.0.0.1".parse().unwrap()));
}

#[test]
fn pods_are_recognised_by_what_was_asked_for() {
    let pods: IpNetwork = "10.244.3.0/24".parse().unwrap();
    let node = Node { pod_cidrs: vec![pods], ..Node::named("n") };
    let table: [(&[(&str, &str)], LocalTraffic); 5] = [
        (&[], LocalTraffic::Unknown),
        (
            &[("cluster-cidr", "10.244.0.0/16")],
            LocalTraffic::Cidrs(vec!["10.244.0.0/16".parse().unwrap()]),
        ),
        (&[("detect-local-mode", "NodeCIDR")], LocalTraffic::Cidrs(vec![pods])),
        (
            &[("detect-local-mode", "BridgeInterface"), ("pod-bridge-interface", "cni0")],
            LocalTraffic::Bridge("cni0".into()),
        ),
        (
            &[("detect-local-mode", "InterfaceNamePrefix"), ("pod-interface-name-prefix", "v")],
            LocalTraffic::InterfacePrefix("v".into()),
        ),
    ];
    for (given, expected) in table {
        let options = by_flags(given).unwrap().config.rule_options(&node, &[]);
        assert_eq!(options.local, expected, "{given:?}");
    }
    let nowhere = by_flags(&[("detect-local-mode", "NodeCIDR")]).unwrap().config;
    assert_eq!(nowhere.rule_options(&Node::named("n"), &[]).local, LocalTraffic::Unknown);
    let liberal = by_flags(&[("conntrack-tcp-be-liberal", "true")]).unwrap().config;
    assert!(!liberal.rule_options(&node, &[]).drop_invalid);
}
