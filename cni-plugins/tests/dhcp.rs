//! `dhcp` and its daemon with real packets: against dnsmasq, and against a server that misbehaves as it is told.

mod lan;
mod node;

use std::any::Any;
use std::cell::RefCell;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lan::server::{DISCOVER, Orders, RELEASE, REQUEST, Server};
use lan::{Lan, eventually, is_up};
use node::faults::{Scene, prove};
use node::{Pod, with_prev};
use serde_json::{Value, json};

fn check(lan: &Lan, pod: &Pod, conf: &Value) -> Result<(), (u64, String)> {
    let answer = lan.node.call("dhcp", "CHECK", pod, conf);
    if answer.ok { Ok(()) } else { Err(answer.error()) }
}

#[test]
fn the_life_of_a_lease_of_dnsmasq() {
    let lan = Lan::new();
    let (_dnsmasq, _daemon) = (lan.dnsmasq(&[]), lan.daemon());
    let pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    assert!(lan.node.call("dhcp", "STATUS", &pod, &conf).ok);
    assert!(!is_up(&pod));
    let result = lan.node.add("dhcp", &pod, &conf);
    let address = result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/24").to_owned();
    assert!(address.starts_with("10.77.0."), "{result}");
    assert_eq!(
        result,
        json!({
            "cniVersion": "1.1.0",
            "ips": [{ "address": format!("{address}/24"), "gateway": "10.77.0.1" }],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "10.77.0.1" }],
        })
    );
    let leased = lan.leased();
    assert_eq!(leased.len(), 1, "{leased:?}");
    // 00 63 31 …: "\0c1/testnet/eth0".
    let id = "00:63:31:2f:74:65:73:74:6e:65:74:2f:65:74:68:30";
    assert!(leased[0].contains(&address) && leased[0].ends_with(id), "{leased:?}");
    assert_eq!(lan.written(), 1);
    // ADD again is the same lease.
    assert_eq!(lan.node.add("dhcp", &pod, &conf), result);
    assert_eq!(check(&lan, &pod, &with_prev(&conf, &result)), Ok(()));
    let mut drifted = result.clone();
    drifted["ips"][0]["address"] = json!("10.77.0.7/24");
    let msg = format!("dhcp: prevResult has no address {address}/24 via 10.77.0.1");
    assert_eq!(check(&lan, &pod, &with_prev(&conf, &drifted)), Err((110, msg)));

    lan.node.del("dhcp", &pod, &conf);
    eventually("the release", || lan.leased().is_empty());
    assert_eq!(lan.written(), 0);
    assert!(!is_up(&pod), "it was down before");
    lan.node.del("dhcp", &pod, &conf);
    let none = "dhcp: there is no lease for c1/testnet/eth0".to_owned();
    assert_eq!(check(&lan, &pod, &with_prev(&conf, &result)), Err((104, none)));
}

#[test]
fn options_reach_dnsmasq_and_come_from_it() {
    let lan = Lan::new();
    let _dnsmasq = lan.dnsmasq(&[
        "--dhcp-option=option:classless-static-route,10.9.0.0/16,10.77.0.9,10.8.0.0/16,0.0.0.0",
        "--dhcp-option=option:static-route,172.16.0.0,10.77.0.8",
        "--dhcp-vendorclass=set:mine,heddle",
        "--dhcp-option=tag:mine,option:router,10.77.0.3",
    ]);
    let _daemon = lan.daemon();
    let pod = lan.pod("c1");
    let add = |ipam: &Value| {
        let conf = lan.conf(ipam);
        let answer =
            lan.node.call_with("dhcp", "ADD", &pod, &conf, &[("CNI_ARGS", "K8S_POD_NAME=web-0")]);
        assert!(answer.ok, "{answer:#?}");
        let leased = lan.leased();
        lan.node.del("dhcp", &pod, &conf);
        (answer.json(), leased)
    };
    let (result, leased) = add(&json!({
        "provide": [{ "option": "host-name", "fromArg": "K8S_POD_NAME" }],
        "request": [{ "option": "33" }],
        "priority": 50,
    }));
    assert!(leased[0].contains(" web-0 "), "{leased:?}");
    assert_eq!(
        result["routes"],
        json!([
            { "dst": "172.16.0.0/16", "gw": "10.77.0.8", "priority": 50 },
            { "dst": "0.0.0.0/0", "gw": "10.77.0.1", "priority": 50 },
        ])
    );
    let (result, _) = add(&json!({ "request": [{ "option": "121" }, { "option": "33" }] }));
    assert_eq!(
        result["routes"],
        json!([
            { "dst": "10.9.0.0/16", "gw": "10.77.0.9" },
            { "dst": "10.8.0.0/16", "gw": "0.0.0.0", "scope": 253 },
        ])
    );
    let (result, _) =
        add(&json!({ "provide": [{ "option": "vendor-class-identifier", "value": "heddle" }] }));
    assert_eq!(result["ips"][0]["gateway"], "10.77.0.3");
    let (_, leased) =
        add(&json!({ "provide": [{ "option": "dhcp-client-identifier", "value": "me" }] }));
    assert!(leased[0].ends_with(" 6d:65"), "{leased:?}");
    // It is released under that name, too.
    eventually("the release", || lan.leased().is_empty());
}

/// The lease is used by a plugin that makes an interface, and packets go through.
#[test]
fn a_container_talks_with_its_leased_address() {
    let lan = Lan::new();
    let (_dnsmasq, _daemon) = (lan.dnsmasq(&[]), lan.daemon());
    let pod = lan.node.pod("c1");
    let mut conf = lan.conf(&json!({}));
    conf["type"] = json!("bridge");
    conf["bridge"] = json!("br0");
    let result = lan.node.add("bridge", &pod, &conf);
    let address = result["ips"][0]["address"].as_str().unwrap().trim_end_matches("/24");
    node::traffic::serve(&lan.node.ns, "10.77.0.1:80", 1);
    assert_eq!(pod.fetch("10.77.0.1:80").as_deref(), Some(address));
    assert!(lan.node.call("bridge", "CHECK", &pod, &with_prev(&conf, &result)).ok);
    lan.node.del("bridge", &pod, &with_prev(&conf, &result));
    assert_eq!(lan.written(), 0);
}

#[test]
fn many_at_once_get_an_address_each() {
    let lan = Lan::new();
    let (_dnsmasq, _daemon) =
        (lan.dnsmasq(&[]), lan.daemon_with("--timeout 5s --resendmax 1s --resendtimeout 50s"));
    let conf = lan.conf(&json!({}));
    let pods: Vec<_> = (0..12).map(|n| lan.pod(&format!("c{n}"))).collect();
    let children: Vec<_> =
        pods.iter().map(|pod| lan.node.prepare("dhcp", "ADD", pod, &conf, &[]).spawn()).collect();
    let mut addresses: Vec<_> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let result: Value = serde_json::from_slice(&output.stdout).unwrap();
            result["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned()
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!((addresses.len(), lan.leased().len(), lan.written()), (12, 12, 12));
    // GC: the valid ones stay, and so do those of other networks.
    let mut collect = conf.clone();
    collect["name"] = json!("othernet");
    collect["cni.dev/valid-attachments"] = json!([]);
    assert!(lan.node.call("dhcp", "GC", &pods[0], &collect).ok);
    assert_eq!(lan.written(), 12);
    collect["name"] = json!("testnet");
    collect["cni.dev/valid-attachments"] = json!([{ "containerID": "c3", "ifname": "eth0" }, { "containerID": "c4", "ifname": "eth1" }]);
    assert!(lan.node.call("dhcp", "GC", &pods[0], &collect).ok);
    eventually("the release", || lan.leased().len() == 1);
    assert_eq!(lan.written(), 1);
    assert_eq!(check(&lan, &pods[3], &conf), Ok(()));
}

#[test]
fn renewing_then_rebinding_then_the_end() {
    let lan = Lan::new();
    let server = Server::start(&lan, Orders { times: [8, 2, 4], ..Orders::default() });
    let _daemon = lan.daemon();
    let pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    lan.node.add("dhcp", &pod, &conf);
    let address = Ipv4Addr::new(10, 77, 0, 50);
    assert!(!server.heard()[0].broadcast_flag);
    assert_eq!(server.heard()[0].client_id, b"\0c1/testnet/eth0");
    // T1: to the server alone, with nothing but the address that it is about.
    let renewal = server.hear("the renewal", |heard| heard.kind == REQUEST && !heard.broadcast);
    assert_eq!((renewal.ciaddr, renewal.requested, renewal.server), (address, None, None));
    assert_eq!(renewal.from.ip(), address);
    eventually("a second renewal", || {
        server.heard().iter().filter(|heard| heard.kind == REQUEST && !heard.broadcast).count() > 1
    });
    // T2: its server does not answer.
    server.order(|orders| orders.deaf_to_unicast = true);
    server.forget();
    let rebinding = server.hear("rebinding", |heard| heard.kind == REQUEST && heard.broadcast);
    assert_eq!((rebinding.ciaddr, rebinding.requested, rebinding.server), (address, None, None));
    let unicasts = server.heard().iter().filter(|heard| !heard.broadcast).count();
    assert!(unicasts >= 1, "it asks its own server first");
    assert_eq!(check(&lan, &pod, &conf), Ok(()));
    assert!(is_up(&pod));
    // The end: nobody answers.
    server.order(|orders| orders.deaf_to_broadcast = true);
    eventually("the end", || check(&lan, &pod, &conf).is_err());
    let msg = "dhcp: there is no lease for c1/testnet/eth0".to_owned();
    assert_eq!(check(&lan, &pod, &conf), Err((104, msg)));
    assert!(!is_up(&pod), "the address must not be used any more");
    assert_eq!(lan.written(), 0);
    // ADD starts anew.
    server.order(|orders| *orders = Orders::default());
    lan.node.add("dhcp", &pod, &conf);
    assert!(is_up(&pod));
    lan.node.del("dhcp", &pod, &conf);
    let release = server.hear("the release", |heard| heard.kind == RELEASE);
    assert_eq!(
        (release.ciaddr, release.server, release.broadcast),
        (address, Some(Ipv4Addr::new(10, 77, 0, 1)), false)
    );
}

#[test]
fn a_refused_renewal_gets_the_same_address_again_or_the_link_goes_down() {
    let lan = Lan::new();
    let server =
        Server::start(&lan, Orders { times: [600, 2, 500], refuse: true, ..Orders::default() });
    let _daemon = lan.daemon();
    let pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    lan.node.add("dhcp", &pod, &conf);
    let address = Ipv4Addr::new(10, 77, 0, 50);
    server.forget();
    let again = server.hear("a new search", |heard| heard.kind == DISCOVER);
    assert_eq!(again.requested, Some(address));
    let accepted = server.hear("its end", |heard| heard.kind == REQUEST && heard.server.is_some());
    assert_eq!(accepted.requested, Some(address));
    eventually("a second renewal", || {
        server.heard().iter().filter(|heard| heard.kind == DISCOVER).count() > 1
    });
    assert!(is_up(&pod) && check(&lan, &pod, &conf).is_ok());
    // Another address is of no use to a container that runs.
    server.order(|orders| orders.address = Ipv4Addr::new(10, 77, 0, 60));
    eventually("the end", || !is_up(&pod));
    eventually("the loss", || check(&lan, &pod, &conf).is_err());
    lan.node.del("dhcp", &pod, &conf);
    assert_eq!(lan.written(), 0);
}

#[test]
fn a_restarted_daemon_goes_on() {
    let lan = Lan::new();
    let server = Server::start(&lan, Orders::default());
    let daemon = lan.daemon();
    let pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    let result = lan.node.add("dhcp", &pod, &conf);
    let address = Ipv4Addr::new(10, 77, 0, 50);
    daemon.kill();
    server.forget();
    let daemon = lan.daemon();
    // INIT-REBOOT: the address, but neither as its own nor of a server (RFC 2131, section 4.3.2).
    let reboot = server.hear("the question after the restart", |heard| heard.kind == REQUEST);
    assert_eq!(
        (reboot.ciaddr, reboot.requested, reboot.server),
        (Ipv4Addr::UNSPECIFIED, Some(address), None)
    );
    assert!(reboot.broadcast);
    assert_eq!(check(&lan, &pod, &with_prev(&conf, &result)), Ok(()));
    assert_eq!(lan.node.add("dhcp", &pod, &conf), result);
    // Nobody answers: the lease holds until its end.
    server.order(|orders| orders.deaf_to_broadcast = true);
    assert_eq!(daemon.terminate(), Some(0), "a daemon that is told to end has not failed");
    assert!(!lan.socket().exists());
    let daemon = lan.daemon();
    eventually("the wait's end", || daemon.said().contains("no server confirmed the lease"));
    assert_eq!(check(&lan, &pod, &conf), Ok(()));
    // The address is somebody else's by now.
    server.order(|orders| {
        *orders =
            Orders { refuse: true, address: Ipv4Addr::new(10, 77, 0, 60), ..Orders::default() }
    });
    daemon.kill();
    let daemon = lan.daemon();
    eventually("the loss", || !is_up(&pod));
    assert!(check(&lan, &pod, &conf).is_err());
    drop(daemon);
    lan.node.del("dhcp", &pod, &conf_of_nobody(&conf));
}

/// DEL through a socket where nobody is.
fn conf_of_nobody(conf: &Value) -> Value {
    let mut conf = conf.clone();
    conf["ipam"]["daemonSocketPath"] = json!("/nowhere/dhcp.sock");
    conf
}

#[test]
fn a_lease_ends_with_its_namespace_which_nothing_keeps_alive() {
    let lan = Lan::new();
    let _server = Server::start(&lan, Orders::default());
    let _daemon = lan.daemon();
    let conf = lan.conf(&json!({}));
    let (one, other) = (lan.pod("c1"), lan.pod("c2"));
    lan.node.add("dhcp", &one, &conf);
    lan.node.add("dhcp", &other, &conf);
    drop(one);
    // The kernel takes the pair of the link in a namespace that ends.
    eventually("the namespace's end", || !lan.node.sh("ip -o link").contains("to-c1@"));
    eventually("the lease's end", || lan.written() == 1);
    other.sh("ip link del eth0");
    eventually("the lease's end", || lan.written() == 0);
}

/// The same attachment in another namespace, without a DEL before: a new lease.
#[test]
fn a_container_that_was_started_again() {
    let lan = Lan::new();
    let server = Server::start(&lan, Orders::default());
    let _daemon = lan.daemon();
    let conf = lan.conf(&json!({}));
    let pod = lan.pod("c1");
    lan.node.add("dhcp", &pod, &conf);
    drop(pod);
    eventually("the namespace's end", || !lan.node.sh("ip -o link").contains("to-c1@"));
    server.forget();
    let pod = lan.pod("c1");
    lan.node.add("dhcp", &pod, &conf);
    assert!(server.heard().iter().any(|heard| heard.kind == DISCOVER));
    assert_eq!(lan.written(), 1);
}

#[test]
fn nobody_answers() {
    let lan = Lan::new();
    let _daemon = lan.daemon_with("--timeout 1s --resendmax 200ms --resendtimeout 2s --broadcast");
    let pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    let msg = "no more tries: no DHCP server gave \"eth0\" an address within 2 s".to_owned();
    assert_eq!(lan.node.call("dhcp", "ADD", &pod, &conf).error(), (11, msg));
    assert!(!is_up(&pod), "a failed ADD leaves nothing");
    // A DEL meanwhile ends the search.
    let server = Server::start(&lan, Orders { deaf_to_broadcast: true, ..Orders::default() });
    let mut adding = lan.node.prepare("dhcp", "ADD", &pod, &conf, &[]).spawn();
    let first = server.hear("a search", |heard| heard.kind == DISCOVER);
    assert!(first.broadcast_flag);
    lan.node.del("dhcp", &pod, &conf);
    assert!(!adding.wait().unwrap().success());
    // And it is repeated while nobody answers.
    server.forget();
    let mut adding = lan.node.prepare("dhcp", "ADD", &pod, &conf, &[]).spawn();
    eventually("a third message", || server.heard().len() > 2);
    server.order(|orders| orders.deaf_to_broadcast = false);
    assert!(adding.wait().unwrap().success());
}

#[test]
fn a_server_that_says_no_mask() {
    let lan = Lan::new();
    let server = Server::start(&lan, Orders { mask: false, ..Orders::default() });
    let _daemon = lan.daemon();
    let pod = lan.pod("c1");
    let answer = lan.node.call("dhcp", "ADD", &pod, &lan.conf(&json!({})));
    assert_eq!(answer.error(), (7, "DHCP option Subnet Mask not found in DHCPACK".to_owned()));
    server.hear("the release", |heard| heard.kind == RELEASE);
    assert_eq!(lan.written(), 0);
}

#[test]
fn without_a_daemon() {
    let lan = Lan::new();
    let pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    let msg = format!("error dialing DHCP daemon: nobody answers on {}", lan.socket().display());
    let add = lan.node.call("dhcp", "ADD", &pod, &conf);
    assert_eq!(add.error(), (11, msg.clone()));
    assert!(add.json()["details"].as_str().unwrap().contains("heddle-cni dhcp-daemon"), "{add:?}");
    let start = Instant::now();
    assert_eq!(lan.node.call("dhcp", "STATUS", &pod, &conf).error(), (50, msg));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(check(&lan, &pod, &conf).unwrap_err().0, 11);
    let del = lan.node.call("dhcp", "DEL", &pod, &conf);
    assert!(del.ok && del.stdout.is_empty(), "{del:?}");
    assert!(del.stderr.contains("no lease is given back"), "{del:?}");
    let mut collect = conf.clone();
    collect["cni.dev/valid-attachments"] = json!([]);
    assert!(lan.node.call("dhcp", "GC", &pod, &collect).ok);
    // A configuration that ADD refuses is good enough for DEL.
    let wrong = lan.conf(&json!({ "priority": -1, "request": [{ "option": "nonsense" }] }));
    assert_eq!(lan.node.call("dhcp", "ADD", &pod, &wrong).error().0, 7);
    assert!(lan.node.call("dhcp", "DEL", &pod, &wrong).ok);
}

#[test]
fn mistakes_cost_nothing() {
    let lan = Lan::new();
    let server = Server::start(&lan, Orders::default());
    let _daemon = lan.daemon();
    let mut pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    pod.ifname = "eth7".to_owned();
    let add = lan.node.call("dhcp", "ADD", &pod, &conf);
    assert_eq!(add.error(), (111, "error looking up \"eth7\": Link not found".to_owned()));
    pod.ifname = "lo".to_owned();
    let gone = lan.node.call_with("dhcp", "ADD", &pod, &conf, &[("CNI_NETNS", "/run/netns/none")]);
    assert_eq!(gone.error().0, 8);
    assert!(server.heard().is_empty());
    assert_eq!(lan.written(), 0);
}

/// Either side tells that the other is not its own.
#[test]
fn the_references_daemon_and_plugin_are_recognised() {
    let lan = Lan::new();
    let pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    {
        let _theirs = lan
            .daemon_by(&format!("/usr/lib/cni/dhcp daemon -socketpath {}", lan.socket().display()));
        let add = lan.node.call("dhcp", "ADD", &pod, &conf);
        let msg =
            format!("what answers on {} is not heddle-cni dhcp-daemon", lan.socket().display());
        assert_eq!(add.error(), (11, msg.clone()));
        assert!(
            add.json()["details"].as_str().unwrap().contains("the reference's daemon"),
            "{add:?}"
        );
        assert_eq!(lan.node.call("dhcp", "STATUS", &pod, &conf).error(), (50, msg));
        assert!(lan.node.call("dhcp", "DEL", &pod, &conf).ok);
    }
    let _ours = lan.daemon();
    let mut conf = conf;
    conf["cniVersion"] = json!("1.0.0");
    let theirs = Lan { node: lan.node.with_suite(node::Suite::Reference) };
    let (_, msg) = theirs.node.call("dhcp", "ADD", &pod, &conf).error();
    assert!(
        msg.contains("501 this is heddle-cni dhcp-daemon, which serves Heddle's dhcp plugin only"),
        "{msg}"
    );
}

#[test]
fn systemd_passes_the_socket_and_the_reference_spelling_works() {
    let lan = Lan::new();
    let _server = Server::start(&lan, Orders::default());
    let (socket, dir) = (lan.socket(), lan.node.dir.path().to_owned());
    let pidfile = dir.join("pid");
    let dhcp = lan.node.bin_dir().join("dhcp");
    let daemon = lan.daemon_by(&format!(
        "/usr/bin/systemd-socket-activate --listen={} {} daemon -pidfile {} -statedir={} -timeout 1s",
        socket.display(), dhcp.display(), pidfile.display(), lan.state().display()
    ));
    let pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    lan.node.add("dhcp", &pod, &conf);
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), daemon.id().to_string());
    lan.node.del("dhcp", &pod, &conf);
    assert_eq!(daemon.terminate(), Some(0));
    assert!(!pidfile.exists());
    assert!(socket.exists(), "it is systemd's");
}

/// With nothing but the capabilities of the unit that we ship.
#[test]
fn the_units_capabilities_are_enough() {
    let unit = fs::read_to_string("../conf/systemd/heddle-cni-dhcp.service").unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let set: Vec<_> = line.split(' ').map(|cap| cap.replace("CAP_", "+").to_lowercase()).collect();
    let lan = Lan::new();
    let _server = Server::start(&lan, Orders::default());
    let daemon = lan.daemon_by(&format!(
        "/usr/bin/setpriv --bounding-set -all,{} --no-new-privs {} dhcp-daemon --socketpath {} --statedir {}",
        set.join(","),
        env!("CARGO_BIN_EXE_heddle-cni"),
        lan.socket().display(),
        lan.state().display()
    ));
    let pod = lan.pod("c1");
    let conf = lan.conf(&json!({}));
    lan.node.add("dhcp", &pod, &conf);
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    assert_eq!(u64::from_str_radix(effective, 16).unwrap().count_ones() as usize, set.len());
    lan.node.del("dhcp", &pod, &conf);
    assert!(!is_up(&pod));
}

#[test]
fn two_daemons_do_not_share() {
    let lan = Lan::new();
    let _first = lan.daemon();
    let program = env!("CARGO_BIN_EXE_heddle-cni");
    let second = |socket: &str| {
        let state = lan.state().display().to_string();
        lan.node.ns.output(&[program, "dhcp-daemon", "--socketpath", socket, "--statedir", &state])
    };
    let told = |output: std::process::Output| {
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        told(second(&lan.socket().display().to_string())).contains("another daemon answers there")
    );
    let other = lan.node.dir.path().join("other.sock").display().to_string();
    assert!(told(second(&other)).contains("another daemon has it"));
}

thread_local! {
    /// What a scene needs to run; the next scene ends it.
    static BEHIND: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn add_is_all_or_nothing() {
    let scene = || {
        BEHIND.with_borrow_mut(Vec::clear);
        let lan = Lan::new();
        let server = Server::start(&lan, Orders::default());
        let daemon = lan.daemon();
        let (pod, conf) = (lan.pod("c1"), lan.conf(&json!({})));
        BEHIND.with_borrow_mut(|behind| {
            behind.push(Box::new(server));
            behind.push(Box::new(daemon));
        });
        // A link that was up once is never again quite as it was made, and the bridge has to notice that it has no carrier.
        pod.sh("ip link set eth0 up");
        node::state::of(&lan.node.ns);
        pod.sh("ip link set eth0 down");
        eventually("no carrier", || lan.node.sh("ip -o link show br0").contains("NO-CARRIER"));
        node::state::of(&lan.node.ns);
        Scene { node: lan.node, pod, conf }
    };
    prove("dhcp", scene, |_| false);
    BEHIND.with_borrow_mut(Vec::clear);
}

/// The reference's plugin and daemon against the same server: the results are the same.
#[test]
fn the_reference_gives_the_same_results() {
    let lan = Lan::new();
    let _dnsmasq = lan.dnsmasq(&[
        "--dhcp-option=option:classless-static-route,10.9.0.0/16,10.77.0.9,0.0.0.0/0,10.77.0.4",
        "--dhcp-option=option:static-route,172.16.0.0,10.77.0.8,192.0.2.0,10.77.0.7",
    ]);
    let pod = lan.pod("c1");
    let cases = [
        json!({}),
        json!({ "request": [{ "option": "121" }] }),
        json!({ "request": [{ "option": "33" }] }),
        json!({ "request": [{ "skipDefault": true, "option": "subnet-mask" }] }),
        json!({ "provide": [{ "option": "host-name", "value": "web-0" }, { "option": "12", "fromArg": "NAME" }], "priority": 7 }),
    ];
    let versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];
    let story = |lan: &Lan| -> Vec<Value> {
        let mut told = Vec::new();
        for (n, case) in cases.iter().enumerate() {
            // Every case in one version at least, and every version in one case.
            for version in versions.iter().filter(|version| n == 0 || **version == "1.0.0") {
                let mut conf = lan.conf(case);
                conf["cniVersion"] = json!(version);
                let answer =
                    lan.node.call_with("dhcp", "ADD", &pod, &conf, &[("CNI_ARGS", "NAME=db-0")]);
                assert!(answer.ok, "{case} {version}: {answer:#?}");
                let mut result = answer.json();
                // 1.1.1 prints an empty dns; newer ones do not.
                result.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
                let leased = lan.leased();
                let client: Vec<_> = leased[0].split(' ').skip(1).collect();
                told.push(json!([case, version, result, client]));
                lan.node.del("dhcp", &pod, &conf);
                eventually("the release", || lan.leased().is_empty());
            }
        }
        told
    };
    let daemon = lan.daemon();
    let ours = story(&lan);
    // So that it removes its socket, which the reference's does not replace.
    daemon.terminate();
    let lan = Lan { node: lan.node.with_suite(node::Suite::Reference) };
    let _daemon =
        lan.daemon_by(&format!("/usr/lib/cni/dhcp daemon -socketpath {}", lan.socket().display()));
    let theirs = story(&lan);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
    }
}
