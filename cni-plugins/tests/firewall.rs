//! `firewall` behind `bridge`, with the real binary, real packets, a real D-Bus daemon and a firewalld of our own.

mod node;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cni_plugins::dbus::{Arg, Bus, Kind, Message, bus_method};
use netns_tools::testing::TestNetns;
use node::faults::{Scene, prove};
use node::{HIDE_SBIN, Node, Pod, Suite, assert_error, state, traffic, with_prev};
use serde_json::{Value, json};

const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const CLIENT: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// A node on which nothing changes by itself a second later.
fn quiet_node() -> Node {
    let node = Node::heddle();
    node.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    node
}

/// A node that forwards nothing by itself, with a client on another link.
fn world() -> (Node, Pod) {
    let node = quiet_node();
    let client = node.pod("client");
    node.sh(&format!(
        "ip link add up0 type veth peer name eth0 netns {} && ip addr add {}/24 dev up0 && ip link set up0 up \
         && ip -6 addr add {}/64 dev up0 nodad && iptables -P FORWARD DROP && ip6tables -P FORWARD DROP",
        client.ns.name(),
        HOST[0],
        HOST[1],
    ));
    client.sh(&format!(
        "ip addr add {}/24 dev eth0 && ip link set eth0 up && ip -6 addr add {}/64 dev eth0 nodad \
         && ip link set lo up && ip route add default via {} && ip -6 route add default via {}",
        CLIENT[0], CLIENT[1], HOST[0], HOST[1],
    ));
    (node, client)
}

/// A pod on bridge `br<n>`, and the result so far.
fn pod_on_bridge(node: &Node, id: &str, n: u8) -> (Pod, Value) {
    pod_in_version(node, id, n, "1.0.0")
}

fn pod_in_version(node: &Node, id: &str, n: u8, version: &str) -> (Pod, Value) {
    let pod = node.pod(id);
    pod.sh("ip link set lo up");
    let conf = json!({
        "cniVersion": version, "name": format!("net{n}"), "type": "bridge", "bridge": format!("br{n}"),
        "isDefaultGateway": true,
        "ipam": node.ipam(&[&format!("10.88.{n}.0/24"), &format!("fd88:{n}::/64")]),
    });
    let result = node.add("bridge", &pod, &conf);
    (pod, result)
}

fn conf(node: &Node, prev: &Value, extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.0.0", "name": "testnet", "type": "firewall", "backend": "iptables",
        "dataDir": data_dir(node), "prevResult": prev,
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn data_dir(node: &Node) -> PathBuf {
    node.dir.path().join("firewall")
}

fn address(result: &Value, index: usize) -> String {
    let cidr = result["ips"][index]["address"].as_str().unwrap();
    cidr.split('/').next().unwrap().to_owned()
}

fn at(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:80") } else { format!("{ip}:80") }
}

/// Whether a TCP connection from one namespace to an address in another comes up.
fn reaches(from: &TestNetns, to: &TestNetns, ip: &str) -> bool {
    let target = at(ip);
    traffic::serve(to, &target, 1);
    let came = traffic::fetch(from, &target).is_some();
    if !came {
        // Ends the server, which must not take the next connection.
        assert!(traffic::fetch(to, &target).is_some(), "{target}");
    }
    came
}

fn rules(node: &Node) -> Vec<String> {
    let all = node.sh("iptables-save -t filter; ip6tables-save -t filter");
    all.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

/// Rules that name an address.
fn own_rules(node: &Node) -> Vec<String> {
    let names_one = |rule: &String| rule.contains("/32 ") || rule.contains("/128 ");
    rules(node).into_iter().filter(names_one).collect()
}

#[test]
fn a_container_is_let_through_and_nobody_else() {
    let (node, client) = world();
    let (pod, prev) = pod_on_bridge(&node, "a", 0);
    let conf = conf(&node, &prev, &json!({}));
    for ip in CLIENT {
        assert!(!reaches(&pod.ns, &client.ns, ip), "the node forwards nothing yet");
    }
    assert_eq!(node.add("firewall", &pod, &conf), prev, "the result is passed on");
    for (family, ip) in CLIENT.iter().enumerate() {
        assert!(reaches(&pod.ns, &client.ns, ip), "out");
        assert!(!reaches(&client.ns, &pod.ns, &address(&prev, family)), "uninvited");
    }
    assert!(node.call("firewall", "CHECK", &pod, &conf).ok);

    // The administrator's rules come first.
    node.sh("iptables -A CNI-ADMIN -p tcp --dport 80 -j DROP");
    assert!(!reaches(&pod.ns, &client.ns, CLIENT[0]));
    assert!(reaches(&pod.ns, &client.ns, CLIENT[1]));
    node.sh("iptables -F CNI-ADMIN");

    node.del("firewall", &pod, &conf);
    for ip in CLIENT {
        assert!(!reaches(&pod.ns, &client.ns, ip), "gone after DEL");
    }
}

/// Pods a and b on one bridge, c on another; all let through.
fn three_pods(node: &Node, extra: &Value) -> Vec<(Pod, Value)> {
    let pods: Vec<_> =
        [("a", 0), ("b", 0), ("c", 1)].iter().map(|(id, n)| pod_on_bridge(node, id, *n)).collect();
    for (pod, prev) in &pods {
        // Who is let in is then a matter of the isolation alone.
        node.add("firewall", pod, &conf(node, prev, extra));
    }
    node.sh("iptables -P FORWARD ACCEPT && ip6tables -P FORWARD ACCEPT");
    pods
}

#[test]
fn without_isolation_everybody_is_reached() {
    let (node, _client) = world();
    let pods = three_pods(&node, &json!({}));
    for family in 0..2 {
        assert!(reaches(&pods[0].0.ns, &pods[1].0.ns, &address(&pods[1].1, family)));
        assert!(reaches(&pods[0].0.ns, &pods[2].0.ns, &address(&pods[2].1, family)));
    }
}

#[test]
fn same_bridge_really_isolates_bridges() {
    let (node, client) = world();
    let pods = three_pods(&node, &json!({ "ingressPolicy": "same-bridge" }));
    let ((a, prev_a), (b, prev_b), (c, prev_c)) = (&pods[0], &pods[1], &pods[2]);
    for (family, outside) in CLIENT.iter().enumerate() {
        assert!(reaches(&a.ns, &b.ns, &address(prev_b, family)), "within the bridge");
        assert!(!reaches(&a.ns, &c.ns, &address(prev_c, family)), "to another bridge");
        assert!(!reaches(&c.ns, &a.ns, &address(prev_a, family)), "from another bridge");
        assert!(reaches(&a.ns, &client.ns, outside), "out");
        assert!(reaches(&node.ns, &a.ns, &address(prev_a, family)), "from the node");
    }
    let same = json!({ "ingressPolicy": "same-bridge" });
    assert!(node.call("firewall", "CHECK", a, &conf(&node, prev_a, &same)).ok);
    // Rules of a bridge stay: the other pod is on it.
    node.del("firewall", a, &conf(&node, prev_a, &same));
    assert!(!reaches(&b.ns, &c.ns, &address(prev_c, 0)));
}

#[test]
fn isolated_really_isolates_within_the_bridge() {
    let (node, client) = world();
    let isolated = json!({ "ingressPolicy": "isolated" });
    let pods = three_pods(&node, &isolated);
    let ((a, prev_a), (b, prev_b), (c, prev_c)) = (&pods[0], &pods[1], &pods[2]);
    for (family, outside) in CLIENT.iter().enumerate() {
        assert!(!reaches(&a.ns, &b.ns, &address(prev_b, family)), "within the bridge");
        assert!(!reaches(&a.ns, &c.ns, &address(prev_c, family)), "to another bridge");
        assert!(reaches(&a.ns, &client.ns, outside), "out");
        assert!(reaches(&node.ns, &a.ns, &address(prev_a, family)), "from the node");
    }
    let check = || node.call("firewall", "CHECK", a, &conf(&node, prev_a, &isolated));
    assert!(check().ok);

    // Where bridges do not show their packets to iptables there would be no isolation.
    node.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0");
    assert_error(&check(), 110, "the firewall is not as ADD left it");
    let (d, prev_d) = pod_on_bridge(&node, "d", 0);
    let before = rules(&node);
    let refused = node.call("firewall", "ADD", &d, &conf(&node, &prev_d, &isolated));
    assert_error(&refused, 112, "cannot keep the containers of a bridge apart here");
    assert!(
        refused.stdout.contains("sysctl -w net.bridge.bridge-nf-call-iptables=1"),
        "{refused:#?}"
    );
    assert_eq!(rules(&node), before);
}

#[test]
fn check_finds_whatever_is_missing() {
    let (node, _client) = world();
    let (pod, prev) = pod_on_bridge(&node, "a", 0);
    let conf = conf(&node, &prev, &json!({ "ingressPolicy": "isolated" }));
    node.add("firewall", &pod, &conf);
    for program in ["iptables", "ip6tables"] {
        let all = node.sh(&format!("{program}-save -t filter"));
        let made = all.lines().filter(|line| line.starts_with("-A") && !line.ends_with("RETURN"));
        for rule in made {
            node.sh(&format!("{program} {}", rule.replacen("-A", "-D", 1)));
            let check = node.call("firewall", "CHECK", &pod, &conf);
            assert_error(&check, 110, "the firewall is not as ADD left it for \"a\"");
            node.sh(&format!("{program}-restore <<'E'\n{all}\nE\n"));
            let check = node.call("firewall", "CHECK", &pod, &conf);
            assert!(check.ok, "{rule}: {check:#?}");
        }
    }
}

#[test]
fn del_knows_what_nobody_says_and_leaves_what_is_another_s() {
    let (node, _client) = world();
    let (a, prev_a) = pod_on_bridge(&node, "a", 0);
    let (b, prev_b) = pod_on_bridge(&node, "b", 0);
    let (conf_a, conf_b) = (conf(&node, &prev_a, &json!({})), conf(&node, &prev_b, &json!({})));
    node.add("firewall", &b, &conf_b);
    let before = own_rules(&node);
    let mut bare = conf_a.clone();
    bare.as_object_mut().unwrap().remove("prevResult");
    let wrong = with_prev(&conf_a, &json!({ "ips": 7 }));
    let mut odd = conf_a.clone();
    odd["ingressPolicy"] = json!("closed");
    odd["iptablesAdminChainName"] = json!("- -");
    for del in [conf_a.clone(), bare, wrong, odd] {
        node.add("firewall", &a, &conf_a);
        for _ in 0..2 {
            let answer = node.call_with("firewall", "DEL", &a, &del, &[("CNI_NETNS", "")]);
            assert!(answer.ok, "{answer:#?}");
            assert_eq!(own_rules(&node), before);
        }
    }

    // a's DEL is late: its addresses are c's by now.
    node.add("firewall", &a, &conf_a);
    let c = node.pod("c");
    node.add("firewall", &c, &conf_a);
    let with_c = own_rules(&node);
    node.del("firewall", &a, &conf_a);
    assert_eq!(own_rules(&node), with_c);
    node.del("firewall", &c, &conf_a);
    assert_eq!(own_rules(&node), before);
    // What our ADD did not note is known by the result.
    fs::remove_dir_all(data_dir(&node)).unwrap();
    node.del("firewall", &b, &conf_b);
    assert_eq!(own_rules(&node), [""; 0]);
}

#[test]
fn gc_removes_what_is_not_valid_and_of_this_network() {
    let (node, _client) = world();
    let pods: Vec<_> = ["a", "b", "c"].iter().map(|id| pod_on_bridge(&node, id, 0)).collect();
    for (n, (pod, prev)) in pods.iter().enumerate() {
        let network = if n == 2 { "testnet2" } else { "testnet" };
        node.add("firewall", pod, &conf(&node, prev, &json!({ "name": network })));
    }
    let all = own_rules(&node);
    assert_eq!(all.len(), 12);
    let gc = |valid: Value| {
        let mut conf = conf(&node, &Value::Null, &json!({ "cniVersion": "1.1.0" }));
        conf["cni.dev/valid-attachments"] = valid;
        let env = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")];
        let answer = node.call_with("firewall", "GC", &pods[0].0, &conf, &env);
        assert!(answer.ok, "{answer:#?}");
        own_rules(&node)
    };
    let one = |id: &str| json!({ "containerID": id, "ifname": "eth0" });
    assert_eq!(gc(json!([one("a"), one("b")])), all);
    let left = gc(json!([one("b"), { "containerID": "a", "ifname": "eth1" }]));
    assert_eq!(left.len(), 8);
    assert!(!left.join("\n").contains(&address(&pods[0].1, 0)), "{left:#?}");
    let left = gc(json!([]));
    assert_eq!(left.len(), 4);
    assert!(left.join("\n").contains(&address(&pods[2].1, 1)), "{left:#?}");
}

#[test]
fn refused_before_anything_is_done() {
    let node = Node::heddle();
    let (pod, prev) = pod_on_bridge(&node, "a", 0);
    let cases = [
        (json!({ "ingressPolicy": "x" }), 7, "unknown ingress policy: \"x\""),
        (json!({ "prevResult": null }), 7, "missing prevResult from earlier plugin"),
        (
            json!({ "ingressPolicy": "same-bridge", "prevResult": { "cniVersion": "1.0.0", "ips": prev["ips"] } }),
            7,
            "interface needs to be set for ingress policy \"same-bridge\", make sure to chain \"firewall\" plugin with \"bridge\"",
        ),
        (json!({ "iptablesAdminChainName": "a\nb" }), 7, "cannot be the name of a chain"),
        (json!({ "backend": "firewalld" }), 113, "cannot reach firewalld"),
        (json!({ "cniVersion": "0.3.1" }), 1, "incompatible CNI versions"),
    ];
    for (extra, code, msg) in cases {
        let answer = node.call("firewall", "ADD", &pod, &conf(&node, &prev, &extra));
        assert_error(&answer, code, msg);
    }
    assert_eq!(rules(&node), [""; 0]);
    assert!(!data_dir(&node).exists());
}

#[test]
fn status_says_why_not() {
    let (node, pod) = world();
    let env = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")];
    let status = |extra: Value, more: &[(&str, &str)]| {
        let conf = conf(&node, &Value::Null, &extra);
        let mut conf = conf;
        conf["cniVersion"] = json!("1.1.0");
        let env: Vec<_> = env.iter().chain(more).copied().collect();
        node.call_with("firewall", "STATUS", &pod, &conf, &env)
    };
    assert!(status(json!({}), &[]).ok);
    assert_error(&status(json!({}), &[(HIDE_SBIN, "1")]), 50, "cannot let containers through now");
    let answer = status(json!({ "backend": "firewalld" }), &[]);
    assert_error(&answer, 50, "cannot let containers through now");
    assert!(answer.stdout.contains("firewalld"), "{answer:#?}");
    node.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0");
    assert!(status(json!({}), &[]).ok);
    assert_error(
        &status(json!({ "ingressPolicy": "isolated" }), &[]),
        50,
        "cannot let containers through now",
    );
}

/// A D-Bus daemon on a socket of its own, with a firewalld whose sources are files: `<zone> <address>`, `/` being `_`.
struct Firewalld {
    daemon: Child,
    address: String,
    zones: PathBuf,
}

impl Firewalld {
    /// Everything is in `dir`.
    fn start(dir: &Path) -> Self {
        let (socket, config, zones) = (dir.join("bus"), dir.join("bus.conf"), dir.join("zones"));
        fs::create_dir(&zones).unwrap();
        let address = format!("unix:path={}", socket.display());
        let policy = "<allow user=\"*\"/><allow own=\"*\"/><allow eavesdrop=\"true\"/><allow send_destination=\"*\" eavesdrop=\"true\"/>";
        let text = format!(
            "<busconfig><type>session</type><listen>{address}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\">{policy}</policy></busconfig>"
        );
        fs::write(&config, text).unwrap();
        let daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--config-file"])
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()
            .expect("this test needs dbus-daemon");
        let own = Self { daemon, address, zones };
        let mut bus = own.connect();
        let name = [Arg::Text("org.fedoraproject.FirewallD1"), Arg::Number(0)];
        bus.call(&bus_method("RequestName"), &name).unwrap();
        let zones = own.zones.clone();
        std::thread::spawn(move || {
            // Ends with the daemon.
            while let Ok(message) = bus.receive() {
                if message.kind == Kind::Call {
                    bus.send(&answer(&message, &zones)).unwrap();
                }
            }
        });
        own
    }

    fn connect(&self) -> Bus {
        let start = Instant::now();
        loop {
            match Bus::connect(&self.address) {
                Ok(bus) => return bus,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(20), "{error:?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn sources(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.zones).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.map(|name| name.replace('_', "/")).collect();
        names.sort();
        names
    }

    fn env(&self) -> [(&str, &str); 1] {
        [("DBUS_SYSTEM_BUS_ADDRESS", &self.address)]
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// What firewalld answers.
fn answer(call: &Message, zones: &Path) -> Message {
    let texts = call.texts();
    let [zone, source] = texts.as_slice() else { panic!("{call:?}") };
    assert_eq!(call.path.as_deref(), Some("/org/fedoraproject/FirewallD1"));
    assert_eq!(call.interface.as_deref(), Some("org.fedoraproject.FirewallD1.zone"));
    let file = zones.join(format!("{zone} {}", source.replace('/', "_")));
    let refuse = |text: String| {
        call.answer(Some("org.fedoraproject.FirewallD1.Exception"), &[Arg::Text(&text)])
    };
    match (call.member.as_deref().unwrap(), file.exists()) {
        ("addSource", true) => refuse(format!("ZONE_ALREADY_SET: {source}")),
        ("addSource", false) => {
            fs::write(&file, "").unwrap();
            call.answer(None, &[Arg::Text(zone)])
        }
        ("removeSource", true) => {
            fs::remove_file(&file).unwrap();
            call.answer(None, &[Arg::Text(zone)])
        }
        ("removeSource", false) => refuse(format!("UNKNOWN_SOURCE: {source}")),
        ("querySource", there) => call.answer(None, &[Arg::Truth(there)]),
        (other, _) => panic!("{other}"),
    }
}

#[test]
fn firewalld_lets_containers_through() {
    let (node, _client) = world();
    let firewalld = Firewalld::start(node.dir.path());
    let env = firewalld.env();
    let (pod, prev) = pod_on_bridge(&node, "a", 0);
    let sources =
        |zone: &str| ["10.88.0.2/32", "fd88::2/128"].map(|host| format!("{zone} {host}")).to_vec();
    // Asked for, or found on the bus.
    for (extra, zone) in [
        (json!({ "backend": "firewalld" }), "trusted"),
        (json!({ "backend": "" }), "trusted"),
        (json!({ "backend": "auto", "firewalldZone": "pods" }), "pods"),
    ] {
        let conf = conf(&node, &prev, &extra);
        for _ in 0..2 {
            let added = node.call_with("firewall", "ADD", &pod, &conf, &env);
            assert!(added.ok && added.json() == prev, "{added:#?}");
            assert_eq!(firewalld.sources(), sources(zone));
        }
        assert!(node.call_with("firewall", "CHECK", &pod, &conf, &env).ok);
        let mut bare = conf.clone();
        bare.as_object_mut().unwrap().remove("prevResult");
        for _ in 0..2 {
            let deleted = node.call_with("firewall", "DEL", &pod, &bare, &env);
            assert!(deleted.ok, "{deleted:#?}");
            assert_eq!(firewalld.sources(), [""; 0]);
        }
        let check = node.call_with("firewall", "CHECK", &pod, &conf, &env);
        assert_error(&check, 110, "the firewall is not as ADD left it");
    }
    assert_eq!(rules(&node), [""; 0]);

    // Asked for by name, iptables it is, firewalld or not.
    let with_iptables = conf(&node, &prev, &json!({}));
    assert!(node.call_with("firewall", "ADD", &pod, &with_iptables, &env).ok);
    assert_eq!((firewalld.sources().len(), own_rules(&node).len()), (0, 4));

    // The isolation is iptables' in any case.
    let isolating =
        conf(&node, &prev, &json!({ "backend": "firewalld", "ingressPolicy": "same-bridge" }));
    node.del("firewall", &pod, &with_iptables);
    assert!(node.call_with("firewall", "ADD", &pod, &isolating, &env).ok);
    assert_eq!((firewalld.sources().len(), own_rules(&node).len()), (2, 0));
    assert!(
        rules(&node).iter().any(|rule| rule.contains("-o br0 ") && rule.ends_with("DROP")),
        "{:#?}",
        rules(&node)
    );
    assert!(node.call_with("firewall", "CHECK", &pod, &isolating, &env).ok);
}

#[test]
fn firewalld_that_went_away_keeps_nobody_from_being_deleted() {
    let (node, _client) = world();
    let firewalld = Firewalld::start(node.dir.path());
    let (pod, prev) = pod_on_bridge(&node, "a", 0);
    let conf = conf(&node, &prev, &json!({ "backend": "firewalld" }));
    assert!(node.call_with("firewall", "ADD", &pod, &conf, &firewalld.env()).ok);
    let address = firewalld.address.clone();
    drop(firewalld);
    let env = [("DBUS_SYSTEM_BUS_ADDRESS", address.as_str())];
    let answer = node.call_with("firewall", "DEL", &pod, &conf, &env);
    assert!(answer.ok, "{answer:#?}");
    let answer = node.call_with("firewall", "ADD", &pod, &conf, &env);
    assert_error(&answer, 113, "cannot reach firewalld");
}

#[test]
fn gc_with_firewalld() {
    let (node, _client) = world();
    let firewalld = Firewalld::start(node.dir.path());
    let env = firewalld.env();
    let (a, prev_a) = pod_on_bridge(&node, "a", 0);
    let (b, prev_b) = pod_on_bridge(&node, "b", 0);
    for (pod, prev) in [(&a, &prev_a), (&b, &prev_b)] {
        let conf = conf(&node, prev, &json!({ "backend": "firewalld", "firewalldZone": "pods" }));
        assert!(node.call_with("firewall", "ADD", pod, &conf, &env).ok);
    }
    let mut collect = conf(&node, &Value::Null, &json!({ "cniVersion": "1.1.0" }));
    collect["cni.dev/valid-attachments"] = json!([{ "containerID": "b", "ifname": "eth0" }]);
    let unset = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")];
    let given: Vec<_> = unset.into_iter().chain(env).collect();
    let answer = node.call_with("firewall", "GC", &a, &collect, &given);
    assert!(answer.ok, "{answer:#?}");
    assert_eq!(firewalld.sources(), ["pods 10.88.0.3/32", "pods fd88::3/128"]);
}

/// The reference (Debian, 1.1.1) as an oracle: rules after each call must be equal, and either suite deletes what the other added.
#[test]
fn the_same_as_the_reference() {
    let cases = [
        json!({}),
        json!({ "ingressPolicy": "open" }),
        json!({ "ingressPolicy": "same-bridge" }),
        json!({ "iptablesAdminChainName": "MY-ADMIN" }),
        json!({ "backend": "what?", "ingressPolicy": "same-bridge" }),
        json!({ "cniVersion": "0.4.0" }),
    ];
    let suites = [Suite::Heddle, Suite::Reference];
    for extra in cases {
        let stories = suites.map(|adds| suites.map(|deletes| story(adds, deletes, &extra)));
        let [[ours, mixed], [other_mix, theirs]] = &stories;
        for other in [mixed, other_mix, theirs] {
            let found = state::differences("", ours, other);
            assert!(found.is_empty(), "{extra}: {found:#?}");
        }
    }
}

fn story(adds: Suite, deletes: Suite, extra: &Value) -> Value {
    let (mut node, _client) = world();
    let version = extra["cniVersion"].as_str().unwrap_or("1.0.0");
    let pods: Vec<_> = [("a", 0), ("b", 0), ("c", 1)]
        .iter()
        .map(|(id, n)| pod_in_version(&node, id, *n, version))
        .collect();
    let confs: Vec<_> = pods.iter().map(|(_, prev)| conf(&node, prev, extra)).collect();
    let (mut told, mut seen) = (Vec::new(), Vec::new());
    node = node.with_suite(adds);
    for ((pod, _), conf) in pods.iter().zip(&confs) {
        let mut result = node.add("firewall", pod, conf);
        result.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
        state::Names::default().normalise(&mut result);
        told.push(result);
        seen.push(rules(&node));
    }
    node = node.with_suite(deletes);
    for ((pod, _), conf) in pods.iter().zip(&confs) {
        let check = node.call("firewall", "CHECK", pod, conf);
        assert!(check.ok, "{adds:?} then {deletes:?}: {check:#?}");
        node.del("firewall", pod, conf);
        seen.push(rules(&node));
    }
    json!({ "results": told, "rules": seen })
}

#[test]
fn the_same_as_the_reference_with_firewalld() {
    let (mut node, _client) = world();
    let firewalld = Firewalld::start(node.dir.path());
    let env = firewalld.env();
    let (pod, prev) = pod_on_bridge(&node, "a", 0);
    let suites = [Suite::Heddle, Suite::Reference];
    for extra in
        [json!({ "backend": "firewalld" }), json!({ "backend": "", "firewalldZone": "pods" })]
    {
        let conf = conf(&node, &prev, &extra);
        let mut seen = Vec::new();
        for (adds, deletes) in suites.iter().flat_map(|one| suites.map(|other| (*one, other))) {
            node = node.with_suite(adds);
            let added = node.call_with("firewall", "ADD", &pod, &conf, &env);
            assert!(added.ok, "{adds:?}: {added:#?}");
            seen.push(firewalld.sources());
            node = node.with_suite(deletes);
            let check = node.call_with("firewall", "CHECK", &pod, &conf, &env);
            assert!(check.ok, "{adds:?} then {deletes:?}: {check:#?}");
            let deleted = node.call_with("firewall", "DEL", &pod, &conf, &env);
            assert!(deleted.ok, "{adds:?} then {deletes:?}: {deleted:#?}");
            assert_eq!(firewalld.sources(), [""; 0], "{adds:?} then {deletes:?}");
        }
        assert_eq!(seen[0].len(), 2);
        assert!(seen.iter().all(|sources| *sources == seen[0]), "{seen:#?}");
    }
}

/// Waits for what the kernel does by itself after a link is made.
fn at_rest(node: &Node, pod: &Pod) {
    state::of(&node.ns);
    state::of(&pod.ns);
}

fn is_shared(line: &str) -> bool {
    let own = line.contains("/32 ") || line.contains("/128 ");
    line.contains("CNI-") && !own
}

#[test]
fn all_or_nothing_with_iptables() {
    let scene = || {
        let node = quiet_node();
        let (pod, prev) = pod_on_bridge(&node, "c1", 0);
        let conf = conf(&node, &prev, &json!({ "ingressPolicy": "isolated" }));
        at_rest(&node, &pod);
        Scene { node, pod, conf }
    };
    prove("firewall", scene, is_shared);
}

/// The plugin finds the bus by its environment, which a script gives it here; the daemon lives as long as the test.
#[test]
fn all_or_nothing_with_firewalld() {
    let running = std::cell::RefCell::new(Vec::new());
    let scene = || {
        let node = quiet_node();
        let firewalld = Firewalld::start(node.dir.path());
        let real = node.dir.path().join("real");
        fs::create_dir(&real).unwrap();
        let plugin = node.bin_dir().join("firewall");
        fs::rename(&plugin, real.join("firewall")).unwrap();
        let script = format!(
            "#!/bin/sh\nexport DBUS_SYSTEM_BUS_ADDRESS={}\nexec {}/firewall\n",
            firewalld.address,
            real.display()
        );
        fs::write(&plugin, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&plugin, mode).unwrap();
        let (pod, prev) = pod_on_bridge(&node, "c1", 0);
        let conf =
            conf(&node, &prev, &json!({ "backend": "firewalld", "ingressPolicy": "same-bridge" }));
        *running.borrow_mut() = vec![firewalld];
        at_rest(&node, &pod);
        Scene { node, pod, conf }
    };
    prove("firewall", scene, is_shared);
}
