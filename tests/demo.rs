//! The first pod and the first service, end to end: the scripts that a user runs, real containerd, real packets.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use heddle_tests::containerd::Containerd;
use heddle_tests::{
    Alone, DEMO, Demo, NODE_ADDRESS, all_answer, answer_udp, ask_udp, bin_dir, get, get_here,
    output, project, run, wait_until,
};
use netns_tools::testing::TestNetns;
use netns_tools::{NetNs, Netlink, Veth};

const WEB: [&str; 2] = ["web-a", "web-b"];

/// The pods' addresses as host-local has them on disk.
fn leases() -> Vec<String> {
    let folder = Path::new(DEMO).join("leases/heddle");
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut leases: Vec<_> = names.filter(|name| name.starts_with("10.")).collect();
    leases.sort();
    leases
}

#[test]
fn services_answer_from_everywhere() {
    let demo = Demo::up();
    let url = format!("{}:80", demo.service("web", 2));
    let (client, node) = (demo.pod_netns("client"), demo.node());
    all_answer(&WEB, || get(&client, &url));
    all_answer(&WEB, || get(&node, &url));
    all_answer(&WEB, || get_here(&format!("{NODE_ADDRESS}:30080")));
    // a pod that reaches itself through its own service: hairpin and masquerade
    let web = demo.pod_netns("web-a");
    all_answer(&WEB, || get(&web, &url));
    // the health port is the node's own
    assert_eq!(get(&node, "127.0.0.1:10248/healthz").expect("the health port"), "ok");

    // UDP: the image has no server for it, so the test is one, inside the pod's namespace
    demo.write_manifest("udp.yaml", UDP);
    let udp = format!("{}:5353", demo.service("echo", 1));
    let server = answer_udp(&demo.pod_netns("echo"), "0.0.0.0:53", "echo");
    assert_eq!(ask_udp(&client, &udp).expect("an answer over UDP"), "echo");
    assert_eq!(ask_udp(&node, &udp).expect("an answer over UDP"), "echo");
    server.join().expect("the server ends");

    // a port of the node, by the plugin portmap
    demo.write_manifest("port.yaml", HOST_PORT);
    demo.running_pod("published");
    let published = format!("{NODE_ADDRESS}:18080");
    wait_until("the host port to answer", || {
        (get_here(&published).ok()?.as_str() == "published").then_some(())
    });
    fs::remove_file(demo.manifest("port.yaml")).expect("the manifest goes");
    wait_until("the host port's rules to be gone", || {
        (!demo.rules().contains("18080")).then_some(())
    });
    assert!(get_here(&published).is_err());
}

const HOST_PORT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: published}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: heddle.dev/demo/busybox:1
    command: [sh, -c, "echo published >/www/index.html; exec httpd -f -p 8080 -h /www"]
    ports: [{containerPort: 8080, hostPort: 18080}]
"#;

const UDP: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: udp
    image: heddle.dev/demo/busybox:1
    command: [sh, -c, "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{name: dns, port: 5353, targetPort: 53, protocol: UDP}]
"#;

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let demo = Demo::up();
    demo.write_manifest(
        "none.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: none}\nspec: {selector: {app: nobody}, ports: [{port: 80}]}\n",
    );
    let address: SocketAddr =
        format!("{}:80", demo.service("none", 0)).parse().expect("an address");
    let client = demo.pod_netns("client");
    let refused = wait_until("the refusal", || {
        let start = Instant::now();
        let outcome = client.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)));
        let error = outcome.expect("the client's namespace").err()?;
        (error.kind() == std::io::ErrorKind::ConnectionRefused).then(|| start.elapsed())
    });
    assert!(refused < Duration::from_secs(4), "{refused:?}");
}

#[test]
fn a_killed_agent_is_not_missed_and_its_successor_adopts() {
    let demo = Demo::up();
    let url = format!("{}:80", demo.service("web", 2));
    let before = demo.status();
    let processes = || {
        let mut pids: Vec<String> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| {
                let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
                command.starts_with("busybox\0httpd")
            })
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        pids.sort();
        pids
    };
    let servers = processes();
    assert_eq!(servers.len(), 2);
    let rules = demo.rules();

    run(Command::new("kill").arg("-9").arg(before["node"]["pid"].to_string()));
    wait_until("the agent to be gone", || demo.try_status().is_none().then_some(()));
    let client = demo.pod_netns_without_agent(&before, "client");
    all_answer(&WEB, || get(&client, &url));
    all_answer(&WEB, || get_here(&format!("{NODE_ADDRESS}:30080")));

    demo.start_agent();
    assert_eq!(demo.service("web", 2), url.trim_end_matches(":80"));
    let after = demo.status();
    assert_ne!(before["node"]["pid"], after["node"]["pid"]);
    assert_eq!(before["pods"], after["pods"], "adopted as they were: addresses, uids, restarts");
    assert_eq!(processes(), servers, "nothing was started again");
    let without_counters = |rules: &str| -> Vec<String> {
        rules.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
    };
    assert_eq!(without_counters(&demo.rules()), without_counters(&rules));
}

#[test]
fn manifests_are_followed() {
    let demo = Demo::up();
    demo.service("web", 2);
    let web = fs::read_to_string(demo.manifest("web.yaml")).expect("the manifest");
    let documents: Vec<_> = web.split("\n---\n").collect();
    assert_eq!(documents.len(), 3);

    // delete one of the two: the pod, its address and its rules go
    let lost = demo.running_pod("web-b");
    let address = lost["ip"].as_str().expect("an address").to_owned();
    assert!(leases().contains(&address) && demo.rules().contains(&format!("{address}:8080")));
    demo.write_manifest("web.yaml", &[documents[0], documents[2]].join("\n---\n"));
    wait_until("web-b to be gone", || demo.pod("web-b").is_none().then_some(()));
    let cluster_ip = demo.service("web", 1);
    assert!(!leases().contains(&address), "{:?}", leases());
    wait_until("its rules to be gone", || {
        (!demo.rules().contains(&format!("{address}:8080"))).then_some(())
    });
    assert!(NetNs::named(&format!("heddle-{}", lost["uid"].as_str().expect("a uid"))).is_err());
    all_answer(&["web-a"], || get(&demo.node(), &format!("{cluster_ip}:80")));

    // change the other: it is replaced
    let old = demo.running_pod("web-a");
    let changed = documents[0].replace("hostname >", "echo changed >");
    demo.write_manifest("web.yaml", &[changed.as_str(), documents[2]].join("\n---\n"));
    wait_until("web-a to be replaced", || demo.pod("web-a").filter(|pod| pod["uid"] != old["uid"]));
    demo.running_pod("web-a");
    demo.service("web", 1);
    let node = demo.node();
    wait_until("the new answer", || {
        (get(&node, &format!("{cluster_ip}:80")).ok().as_deref() == Some("changed")).then_some(())
    });

    // a manifest that is not right is reported and disturbs nobody
    let uid = demo.running_pod("web-a")["uid"].clone();
    demo.write_manifest(
        "bad.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {volumes: [{name: v}]}\n",
    );
    demo.write_manifest("worse.yaml", "{{{{");
    let errors = wait_until("the mistakes to be told", || {
        let status = demo.status();
        let errors = status["errors"].as_array()?.clone();
        (errors.len() == 2).then_some(errors)
    });
    let text = format!("{errors:?}");
    assert!(
        text.contains("bad.yaml") && text.contains("spec.volumes: is not supported yet"),
        "{text}"
    );
    assert!(text.contains("worse.yaml") && text.contains("not valid YAML"), "{text}");
    assert_eq!(demo.running_pod("web-a")["uid"], uid);
}

#[test]
fn a_container_that_ends_is_started_again_and_its_words_are_kept() {
    let demo = Demo::up();
    demo.write_manifest(
        "crash.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: crash}\nspec:\n  containers:\n  - name: c\n    \
         image: heddle.dev/demo/busybox:1\n    command: [sh, -c, 'echo out; echo err >&2; exit 3']\n",
    );
    let pod = wait_until("two restarts", || {
        demo.pod("crash").filter(|pod| pod["containers"][0]["restarts"].as_u64() >= Some(2))
    });
    assert_eq!(pod["containers"][0]["exit_code"], 3);
    wait_until("the back-off", || {
        demo.pod("crash").filter(|pod| pod["reason"] == "CrashLoopBackOff")
    });
    let uid = pod["uid"].as_str().expect("a uid");
    let log = Path::new(DEMO).join(format!("logs/default_crash_{uid}/c/0.log"));
    let text = fs::read_to_string(&log).expect("the first attempt's log");
    assert!(text.contains(" stdout F out\n") && text.contains(" stderr F err\n"), "{text}");
    // an image that is not there is named, with what to do
    demo.write_manifest(
        "noimage.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: noimage}\nspec: {containers: [{name: c, image: heddle.dev/none:1}]}\n",
    );
    let pod = wait_until("the reason", || {
        demo.pod("noimage").filter(|pod| pod["reason"] == "ErrImageNeverPull")
    });
    assert!(
        pod["message"].as_str().is_some_and(|message| message.contains("images import")),
        "{pod}"
    );
}

#[test]
fn nothing_is_left_and_everything_may_be_done_twice() {
    let inventory = || run(Command::new("bash").arg(project().join("ci/lib/inventory.sh")));
    let demo = Demo::up();
    // again: it is up already
    run(&mut demo.up_again());
    let second = Command::new(bin_dir().join("heddle-agent"))
        .args(["run", "--config"])
        .arg(Path::new(DEMO).join("agent.toml"))
        .output()
        .expect("the agent's program");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another agent (pid "));
    let during = inventory();
    demo.down();
    let after = inventory();
    assert!(during.contains("heddle-node") && !after.contains("heddle-node"), "{after}");
    assert!(!after.contains("heddle0") && !after.contains("kubepods"), "{after}");
    assert!(!Path::new(DEMO).exists() && !Path::new("/run/heddle-demo").exists());
    // once more, with nothing to do
    demo.down();
}

/// As an installation has it: programs, plugins and configuration at their usual places, the host's own network. Here a
/// namespace stands for that network; it is empty again afterwards.
#[test]
fn the_host_itself_can_be_the_node() {
    let host = TestNetns::new("host");
    host.cmd(&["ip", "link", "set", "lo", "up"]);
    let outside = TestNetns::new("outside");
    connect(&host, &outside);
    let state = || {
        ["ip -br link", "ip -br addr show dev eth0", "ip route", "iptables-save | grep ^-"]
            .map(|line| host.cmd(&["sh", "-c", &format!("{line} || true")]))
    };
    let folders = ["/opt/cni/bin", "/etc/cni/net.d", "/etc/heddle", "/usr/local/bin"];
    let files = || {
        folders.map(|folder| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
            names.sort();
            names
        })
    };
    let (before, files_before) = (state(), files());

    let demo = Demo::up_on(host.ns().path());
    let url = format!("{}:80", demo.service("web", 2));
    all_answer(&WEB, || get(&demo.pod_netns("client"), &url));
    all_answer(&WEB, || get(host.ns(), &url));
    all_answer(&WEB, || get(outside.ns(), "198.18.90.2:30080"));
    for file in ["/opt/cni/bin/bridge", "/usr/local/bin/heddle-agent", "/etc/heddle/agent.toml"] {
        assert!(Path::new(file).exists(), "{file}");
    }
    let refused = output(Command::new(project().join("ci/up")).arg("--bin-dir").arg(bin_dir()));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("a demo of the other kind"), "{words}");

    demo.down();
    assert_eq!(state(), before);
    assert_eq!(files(), files_before);
}

/// The host's eth0 and a machine outside.
fn connect(host: &TestNetns, outside: &TestNetns) {
    outside.cmd(&["ip", "link", "set", "lo", "up"]);
    let mut net = Netlink::open_in(host.ns()).expect("netlink in the host");
    let pair = Veth { peer_ns: Some(outside.ns()), ..Veth::new("eth0", "eth0") };
    net.add_veth(&pair).expect("a veth pair");
    for (ns, own, other) in
        [(host, "198.18.90.2/30", "198.18.90.1"), (outside, "198.18.90.1/30", "198.18.90.2")]
    {
        ns.cmd(&["ip", "addr", "add", own, "dev", "eth0"]);
        ns.cmd(&["ip", "link", "set", "eth0", "up"]);
        ns.cmd(&["ip", "route", "add", "default", "via", other]);
    }
}

/// A containerd that runs already is used, in a namespace of the demo's own, and is left as it was.
#[test]
fn a_containerd_that_runs_is_used() {
    let alone = Alone::wait();
    let containerd = Containerd::usual();
    let demo = Demo::start(None, alone);
    let address =
        fs::read_to_string(Path::new(DEMO).join("containerd.address")).expect("the address");
    assert_eq!(address.trim(), Containerd::USUAL);
    assert!(!Path::new("/run/heddle/containerd").exists());
    let url = format!("{}:80", demo.service("web", 2));
    all_answer(&WEB, || get(&demo.node(), &url));
    assert!(containerd.namespaces().contains("heddle-demo"));
    demo.down();
    assert!(!containerd.namespaces().contains("heddle-demo"), "{}", containerd.namespaces());
}
