//! `heddle-agent proxy` as an operator runs it: the README's file, an API server, real traffic, both modes.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use netns_tools::testing::{End, TestNetns, veth_pair};
use serde_json::{Value, json};
use test_api_server::{Authority, Resource, Server};

use crate::program::{PROGRAM, Program, ask, reaches, say, serve, within};

const CLUSTER: &str = "10.96.0.10:80";
const NODE_PORT: &str = "192.0.2.1:30080";

/// A node between a client and two pods, each of which says its name at port 8080.
struct World {
    node: TestNetns,
    client: TestNetns,
    pods: [TestNetns; 2],
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    server: Server,
}

impl World {
    fn new() -> Self {
        let [node, client, one, two] = ["pnode", "pclient", "pone", "ptwo"].map(TestNetns::new);
        veth_pair(End(&node, "c0", &["192.0.2.1/24"]), End(&client, "eth0", &["192.0.2.2/24"]));
        veth_pair(End(&node, "p1", &["10.244.1.1/24"]), End(&one, "eth0", &["10.244.1.2/24"]));
        veth_pair(End(&node, "p2", &["10.244.2.1/24"]), End(&two, "eth0", &["10.244.2.2/24"]));
        client.cmd(&["ip", "route", "add", "default", "via", "192.0.2.1"]);
        one.cmd(&["ip", "route", "add", "default", "via", "10.244.1.1"]);
        two.cmd(&["ip", "route", "add", "default", "via", "10.244.2.1"]);
        // a cluster address needs a route, though no packet ever takes it
        node.cmd(&["ip", "route", "add", "default", "via", "192.0.2.2"]);
        node.cmd(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        say(&one, "one");
        say(&two, "two");
        let folder = tempfile::tempdir().unwrap();
        let (server, runtime) = serve(&node, "127.0.0.1:0", folder.path());
        fs::write(folder.path().join("proxy.yaml"), readme_file()).unwrap();
        server.put(node_object());
        server.put(service());
        server.put(slice("10.244.1.2"));
        Self { node, client, pods: [one, two], folder, runtime, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments of a proxy on this node.
    fn arguments(&self, mode: &str) -> Vec<String> {
        let (config, kubeconfig) = (self.path("proxy.yaml"), self.path("kubeconfig"));
        vec![
            format!("--config={}", config.display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--proxy-mode={mode}"),
            "--node-name=node".to_owned(),
        ]
    }

    fn start(&self, mode: &str) -> Program {
        let mut command = self.node.command(PROGRAM);
        command.arg("proxy").args(self.arguments(mode));
        Program::start(command, self.folder.path())
    }

    /// Runs a task of the proxy that ends; what it printed.
    fn once(&self, mode: &str, task: &[&str]) -> String {
        let mut command = self.node.command(PROGRAM);
        let output = command.arg("proxy").args(self.arguments(mode)).args(task).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{task:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fetch(&self, port: u16, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        ask(&self.node, &format!("127.0.0.1:{port}"), request.as_bytes()).unwrap()
    }

    fn rules(&self) -> String {
        self.node.cmd(&["nft", "list", "ruleset"])
    }
}

/// The configuration that the README shows.
fn readme_file() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(path).unwrap();
    let section = text.split("### The proxy alone").nth(1).expect("the README has the section");
    let file = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    file.expect("the section shows a file").to_owned()
}

fn node_object() -> Value {
    json!({
        "kind": "Node", "metadata": {"name": "node"}, "spec": {"podCIDRs": ["10.244.0.0/16"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    })
}

fn service() -> Value {
    json!({
        "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}],
        },
    })
}

fn slice(address: &str) -> Value {
    json!({
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "nodeName": "node", "conditions": {"ready": true}}],
    })
}

fn runs_in_kube_proxys_place(mode: &str) {
    let world = World::new();
    let untouched = world.rules();
    let plan = world.once(mode, &["--dry-run"]);
    assert!(plan.contains("10.96.0.10"), "{plan}");
    assert_eq!(world.rules(), untouched, "a dry run changes nothing");

    let proxy = world.start(mode);
    let [one, _] = &world.pods;
    for (from, to) in [(&world.client, NODE_PORT), (&world.node, CLUSTER), (one, CLUSTER)] {
        reaches(from, to, "one");
    }
    assert!(world.fetch(10249, "/proxyMode").ends_with(mode));
    assert!(world.fetch(10249, "/configz").contains("\"clusterCIDR\":\"10.244.0.0/16\""));
    assert!(world.fetch(10249, "/metrics").contains("kubeproxy_sync_proxy_rules_duration_seconds"));
    assert!(world.fetch(10256, "/healthz").starts_with("HTTP/1.0 200"));

    world.server.put(slice("10.244.2.2"));
    for (from, to) in [(&world.client, NODE_PORT), (&world.node, CLUSTER)] {
        reaches(from, to, "two");
    }
    let shown = world.once(mode, &["rules", "--service", "default/web"]);
    assert!(shown.contains("10.96.0.10") && shown.contains("10.244.2.2"), "{shown}");
    assert!(shown.contains("all as it should be") && !shown.contains(" missing"), "{shown}");

    // the API goes away: rules stay, and what changed meanwhile follows when it is back
    world.server.set_away(true);
    world.server.put(slice("10.244.1.2"));
    world.server.compact();
    reaches(&world.client, NODE_PORT, "two");
    world.server.set_away(false);
    reaches(&world.client, NODE_PORT, "one");
    world.server.delete(Resource::EndpointSlices, "default", "web-1");
    within("nobody serves, so connections are refused", || {
        ask(&world.client, NODE_PORT, b"").map_or(Ok(()), Err)
    });
    world.server.put(slice("10.244.1.2"));
    reaches(&world.client, NODE_PORT, "one");

    let said = proxy.stop();
    assert!(said.contains("the rules stay") && !said.contains("ERROR"), "{said}");
    reaches(&world.client, NODE_PORT, "one");
    // another start adopts what it finds
    world.start(mode).stop();
    reaches(&world.client, NODE_PORT, "one");
    world.once(mode, &["--cleanup"]);
    let left = world.rules();
    assert!(!left.contains("10.96.0.10") && !left.contains("KUBE-"), "{left}");
    assert!(ask(&world.client, NODE_PORT, b"").is_err());
    drop(world.runtime);
}

#[test]
fn in_iptables_mode() {
    runs_in_kube_proxys_place("iptables");
}

#[test]
fn in_nftables_mode() {
    runs_in_kube_proxys_place("nftables");
}

#[test]
fn services_of_a_folder_are_served_and_modes_are_changed_under_traffic() {
    let world = World::new();
    let manifests = world.path("manifests");
    fs::create_dir(&manifests).unwrap();
    for (name, mut object) in
        [("service", service()), ("slice", slice("10.244.1.2")), ("node", node_object())]
    {
        let version = if name == "slice" { "discovery.k8s.io/v1" } else { "v1" };
        object["apiVersion"] = json!(version);
        fs::write(manifests.join(format!("{name}.json")), object.to_string()).unwrap();
    }
    let folder = format!("--static-dir={}", manifests.display());
    let mut before: Option<Program> = None;
    for mode in ["iptables", "nftables", "iptables"] {
        drop(before.take().map(Program::stop));
        let mut command = world.node.command(PROGRAM);
        command.args(["proxy", &folder, "--node-name=node", "--cluster-cidr=10.244.0.0/16"]);
        command.arg(format!("--proxy-mode={mode}"));
        before = Some(Program::start(command, world.folder.path()));
        reaches(&world.client, NODE_PORT, "one");
    }
    fs::write(manifests.join("slice.json"), {
        let mut changed = slice("10.244.2.2");
        changed["apiVersion"] = json!("discovery.k8s.io/v1");
        changed.to_string()
    })
    .unwrap();
    reaches(&world.client, NODE_PORT, "two");
    let second = world.node.command(PROGRAM).args(["proxy", &folder, "--node-name=node"]).output();
    let second = second.unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("runs in this network namespace; stop it first"), "{said}");
}

#[test]
fn mistakes_are_told_at_once_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.yaml");
    fs::write(&file, "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nfoo: 1\n").unwrap();
    let output = std::process::Command::new(PROGRAM)
        .args(["proxy", "--config", &file.display().to_string(), "--cluster-cidr", "x"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for words in [
        "mode: mode ipvs is not offered",
        "foo: there is no such field",
        "--cluster-cidr: \"x\" is no range",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// As a pod of a `DaemonSet` has it: the server's address in the environment, token and authority below `/var/run/secrets`.
#[test]
fn a_pods_service_account_is_enough() {
    let node = TestNetns::new("pincluster");
    node.configure("lo", &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = node.run(|| TcpListener::bind("127.0.0.1:0").unwrap());
    listener.set_nonblocking(true).unwrap();
    let authority = Authority::new();
    let server = runtime.block_on(async {
        Server::serve_to(tokio::net::TcpListener::from_std(listener).unwrap(), &authority)
    });
    server.put_all([node_object(), service(), slice("10.244.1.2")]);
    let account = tempfile::tempdir().unwrap();
    let files =
        [("token", "of-the-account\n"), ("ca.crt", authority.pem()), ("namespace", "kube-system")];
    for (name, text) in files {
        fs::write(account.path().join(name), text).unwrap();
    }
    let dry_run = || {
        // a view of the files of its own: `/var/run` is a link to `/run`
        let script = "mount -t tmpfs none /run && mkdir -p /run/secrets/kubernetes.io && \
                      ln -s \"$1\" /run/secrets/kubernetes.io/serviceaccount && \
                      exec \"$2\" proxy --proxy-mode=nftables --node-name=node --dry-run";
        let mut command = node.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command.arg(account.path()).arg(PROGRAM).env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
        command.env("KUBERNETES_SERVICE_PORT", server.address().port().to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    server.set_tokens(&["of-the-account"]);
    let output = dry_run().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("10.96.0.10"), "{said}");
    let users = server.take_users();
    assert!(
        users.len() >= 3 && users.iter().all(|user| user == "token of-the-account"),
        "{users:?}"
    );
    // without a token there is no sense in a start
    fs::remove_file(account.path().join("token")).unwrap();
    let output = dry_run().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let want = "cannot read the token file /var/run/secrets/kubernetes.io/serviceaccount/token: No such file";
    assert!(!output.status.success() && said.contains(want), "{said}");
}

#[test]
fn an_api_that_is_away_is_one_line_whatever_is_followed() {
    let world = World::new();
    let proxy = world.start("nftables");
    reaches(&world.client, CLUSTER, "one");
    let lines = |words: &str| proxy.said().matches(words).count();
    let warned = || lines(" WARN ") + lines("ERROR");
    let before = warned();
    world.server.set_away(true);
    let until = |what: &str, reached: &dyn Fn() -> bool| {
        within(what, || if reached() { Ok(()) } else { Err(proxy.said()) });
    };
    until("it is told", &|| lines("the API does not answer; what stays: the rules") > 0);
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(warned() - before, 1, "{}", proxy.said());
    world.server.set_away(false);
    until("it is back", &|| lines("the API answers again") > 0);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((lines("the API answers again"), warned() - before), (1, 1), "{}", proxy.said());
}
