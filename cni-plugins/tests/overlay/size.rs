//! Links follow the lease's MTU.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::node::{Node, Pod};
use crate::world::*;

/// Pods that are attached already follow, and so does the bridge; what is not ours, or has an MTU of its own, stays.
#[test]
fn links_follow_the_lease() {
    for mode in MODES {
        let node = leased();
        let conf = of_mode(&node, mode);
        let mut fixed = conf.clone();
        fixed["name"] = json!("fixed");
        fixed["delegate"]["bridge"] = json!("br1");
        fixed["delegate"]["mtu"] = json!(1450);
        write_lease(&node, &LEASE.replace("244", "245"));
        let own = node.pod("own");
        node.add("overlay", &own, &fixed);
        write_lease(&node, LEASE);
        let (a, b) = (node.pod("a"), node.pod("b"));
        let results = [&a, &b].map(|pod| node.add("overlay", pod, &conf));
        node.sh("ip link add mine mtu 1450 type veth peer name yours");
        let ends: Vec<_> = results
            .iter()
            .map(|result| {
                let all = result["interfaces"].as_array().unwrap().iter();
                let mut host = all.filter(|one| one["name"].as_str().unwrap().starts_with("veth"));
                host.next().unwrap()["name"].as_str().unwrap().to_owned()
            })
            .collect();
        for new in [1400, 8900, 1300] {
            write_lease(&node, &LEASE.replace("1450", &new.to_string()));
            let c = node.pod("c");
            let answer = node.call("overlay", "ADD", &c, &conf);
            assert!(answer.ok, "{answer:#?}");
            for (pod, end) in [&a, &b].iter().zip(&ends) {
                assert_eq!(
                    (mtu(&pod.ns, "eth0"), mtu(&node.ns, end)),
                    (new, new),
                    "{mode} {}",
                    answer.stderr
                );
                assert!(
                    answer.stderr.contains(&format!("changed {end} with eth0 of {}", pod.id)),
                    "{answer:#?}"
                );
            }
            if mode == "bridge" {
                assert_eq!(mtu(&node.ns, "br0"), new);
            }
            assert_eq!((mtu(&own.ns, "eth0"), mtu(&node.ns, "mine")), (1450, 1450));
            for (pod, result) in [&a, &b].iter().zip(&results) {
                let answer = check(&node, pod, &conf, result);
                assert!(answer.ok, "{answer:#?}");
            }
            node.del("overlay", &c, &conf);
        }
    }
}

/// Real packets of the new size pass, and none that is larger.
#[test]
fn packets_have_the_new_size() {
    for mode in MODES {
        let node = leased();
        let conf = of_mode(&node, mode);
        let (a, b) = (node.pod("a"), node.pod("b"));
        let (_, result) = (node.add("overlay", &a, &conf), node.add("overlay", &b, &conf));
        let target = address(&result, 0);
        let passes = |bytes: usize| send_whole(&a, &b, &target, bytes);
        assert!(passes(1450) && !passes(1451), "{mode}");
        write_lease(&node, &LEASE.replace("1450", "1400"));
        node.add("overlay", &node.pod("c"), &conf);
        assert!(passes(1400) && !passes(1401), "{mode}");
        write_lease(&node, &LEASE.replace("1450", "4000"));
        node.add("overlay", &node.pod("d"), &conf);
        assert!(passes(4000) && !passes(4001), "{mode}");
    }
}

/// Whether an IPv4 packet of `bytes`, which must not be fragmented, arrives.
fn send_whole(from: &Pod, to: &Pod, target: &str, bytes: usize) -> bool {
    use std::net::UdpSocket;
    let receiver = to.ns.run(|| UdpSocket::bind("0.0.0.0:9")).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let sender = from.ns.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    set_df(&sender);
    // the headers of IP and of UDP
    if sender.send_to(&vec![7; bytes - 28], (target, 9)).is_err() {
        return false;
    }
    receiver.recv(&mut vec![0; bytes]).is_ok_and(|length| length == bytes - 28)
}

/// `IP_MTU_DISCOVER`, `IP_PMTUDISC_PROBE` (ip(7)): do not fragment, and do not go by what was learned.
fn set_df(socket: &std::net::UdpSocket) {
    use std::os::fd::AsRawFd;
    let probe = libc::IP_PMTUDISC_PROBE;
    // SAFETY: the descriptor is open, and the kernel reads an integer that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const probe).cast(),
            std::mem::size_of_val(&probe).try_into().unwrap(),
        )
    };
    assert_eq!(done, 0);
}

fn set_mtu(node: &Node, more: &[&str]) -> (bool, String) {
    let (lease, data) = (lease_file(node), data_dir(node));
    let words = [env!("CARGO_BIN_EXE_heddle-cni"), "overlay", "set-mtu", "--lease"];
    let mut words: Vec<&str> = words.into();
    words.extend([lease.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    words.extend(more);
    let output = node.ns.output(&words);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text)
}

#[test]
fn links_follow_on_request() {
    let node = Node::heddle();
    let (ok, text) = set_mtu(&node, &[]);
    assert!(!ok && text.contains("subnet.env does not exist"), "{text}");
    write_lease(&node, LEASE);
    assert_eq!(set_mtu(&node, &[]), (true, "nothing to change: every link has MTU 1450\n".into()));
    let (conf, a, b) = (conf(&node, &json!({})), node.pod("a"), node.pod("b"));
    for pod in [&a, &b] {
        node.add("overlay", pod, &conf);
    }
    write_lease(&node, &LEASE.replace("1450", "1380"));
    assert!(set_mtu(&node, &["--network", "another"]).1.starts_with("nothing to change"));
    let (ok, text) = set_mtu(&node, &[]);
    assert!(ok && text.lines().count() == 3, "{text}");
    assert!(
        text.contains("eth0 of a: MTU 1450 -> 1380")
            && text.contains("changed bridge br0: MTU 1450 -> 1380"),
        "{text}"
    );
    assert_eq!((mtu(&a.ns, "eth0"), mtu(&b.ns, "eth0"), mtu(&node.ns, "br0")), (1380, 1380, 1380));
    assert!(set_mtu(&node, &[]).1.starts_with("nothing to change"));

    // of one nothing is remembered, the other's interface has another name by now: told, not touched, and no ADD suffers
    fs::remove_file(data_dir(&node).join("a:eth0.json")).unwrap();
    b.sh("ip link set eth0 down && ip link set eth0 name other && ip link set other up");
    write_lease(&node, LEASE);
    let (ok, text) = set_mtu(&node, &[]);
    assert!(!ok && text.contains("nothing is remembered of cni:testnet:a:eth0"), "{text}");
    assert!(
        text.contains("its other end is not \"eth0\"") && text.contains("2 links keep their MTU"),
        "{text}"
    );
    assert_eq!((mtu(&a.ns, "eth0"), mtu(&b.ns, "other"), mtu(&node.ns, "br0")), (1380, 1380, 1380));
    node.add("overlay", &node.pod("c"), &conf);
}

/// Where an attachment was there is another link of that name by now: it is not touched, and the bridge stays as small as what is left.
#[test]
fn another_link_of_the_name_is_left_alone() {
    let node = leased();
    let (conf, a, b) = (conf(&node, &json!({})), node.pod("a"), node.pod("b"));
    for pod in [&a, &b] {
        node.add("overlay", pod, &conf);
    }
    b.sh("ip link set eth0 down && ip link set eth0 name other && ip link set other up && ip link add eth0 mtu 9000 type veth peer name peer mtu 9000");
    write_lease(&node, &LEASE.replace("1450", "1490"));
    let (ok, text) = set_mtu(&node, &[]);
    assert!(!ok && text.contains("its other end is not \"eth0\""), "{text}");
    assert!(text.contains("bridge br0: a link of this network has a smaller MTU"), "{text}");
    assert_eq!((mtu(&b.ns, "eth0"), mtu(&b.ns, "other"), mtu(&node.ns, "br0")), (9000, 1450, 1450));
    assert_eq!(mtu(&a.ns, "eth0"), 1490);
}

/// An MTU that was made smaller in the pod stays if it fits.
#[test]
fn what_is_smaller_inside_stays() {
    let node = leased();
    let (conf, pod) = (conf(&node, &json!({})), node.pod("a"));
    node.add("overlay", &pod, &conf);
    pod.sh("ip link set eth0 mtu 1290");
    write_lease(&node, &LEASE.replace("1450", "1400"));
    assert!(set_mtu(&node, &[]).0);
    assert_eq!(mtu(&pod.ns, "eth0"), 1290);
    write_lease(&node, &LEASE.replace("1450", "1280"));
    assert!(set_mtu(&node, &[]).0);
    assert_eq!(mtu(&pod.ns, "eth0"), 1280);
}
