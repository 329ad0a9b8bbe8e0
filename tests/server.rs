//! A node with our API server and our service proxy and nothing of anybody else but kubectl: what is typed there is where packets go.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use heddle_tests::api_server::{ApiServer, PORT, Program};
use heddle_tests::{get, wait_until};
use netns_tools::testing::{End, TestNetns, veth_pair};

const NODE_PORT: &str = "192.0.2.1:30080";

/// A node between a client and two pods, each of which says its name at port 8080.
struct World {
    // what runs ends before its namespaces and files go
    server: ApiServer,
    folder: tempfile::TempDir,
    node: TestNetns,
    client: TestNetns,
    _pods: [TestNetns; 2],
}

impl World {
    fn new() -> Self {
        let [node, client, one, two] = ["snode", "sclient", "sone", "stwo"].map(TestNetns::new);
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
        let folder = tempfile::tempdir().expect("a folder");
        let server = ApiServer::start(&node, folder.path(), "192.0.2.1");
        Self { server, folder, node, client, _pods: [one, two] }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Connections go to this pod from now on, as whoever runs the endpoints' controller would say.
    #[track_caller]
    fn point_to(&self, address: &str) {
        let patch = format!(
            r#"[{{"op":"replace","path":"/endpoints/0/addresses/0","value":"{address}"}}]"#
        );
        self.server.kubectl(&["patch", "endpointslice", "web-1", "--type=json", "-p", &patch]);
    }

    fn proxy(&self, mode: &str, kubeconfig: &str) -> Program {
        let kubeconfig = self.path(kubeconfig).display().to_string();
        let arguments = [
            "proxy".to_owned(),
            format!("--kubeconfig={kubeconfig}"),
            format!("--proxy-mode={mode}"),
            "--cluster-cidr=10.244.0.0/16".to_owned(),
            "--nodeport-addresses=192.0.2.0/24".to_owned(),
            "--node-name=node".to_owned(),
        ];
        Program::start(self.node.ns().path(), "heddle-agent", &arguments, self.folder.path())
    }

    /// Waits until the service answers at an address, and then with this name alone.
    #[track_caller]
    fn answers(&self, from: &TestNetns, to: &str, name: &str) {
        wait_until(&format!("{name} to answer at {to}; {}", self.logs()), || {
            get(from.ns(), to).ok().filter(|answer| answer == name)
        });
    }

    fn logs(&self) -> String {
        let agent = fs::read_to_string(self.path("heddle-agent.log")).unwrap_or_default();
        format!("{}\n{agent}", self.server.log())
    }
}

/// An HTTP server that knows its name.
fn say(pod: &TestNetns, name: &'static str) {
    let address: SocketAddr = ([0, 0, 0, 0], 8080).into();
    let listener = pod.run(|| TcpListener::bind(address).expect("a socket"));
    // ends with the test's process
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(Duration::from_secs(5))).ok();
            // what is left unread would reset the connection
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            lines.find(String::is_empty);
            write!(stream, "HTTP/1.0 200 OK\r\n\r\n{name}").ok();
        }
    });
}

/// A kubeconfig with a certificate, as `heddle-server kubeconfig` makes it for the user that the default roles know.
fn with_certificate(world: &World) {
    let text = world.server.kubeconfig(&["--user", "system:kube-proxy"]);
    fs::write(world.path("proxy.kubeconfig"), text).expect("a file");
}

/// A kubeconfig with the token of a service account, as kube-proxy's pods have one.
fn with_token(world: &World) {
    world.server.kubectl(&["-n", "kube-system", "create", "serviceaccount", "kube-proxy"]);
    let role = "--clusterrole=system:node-proxier";
    let account = "--serviceaccount=kube-system:kube-proxy";
    world.server.kubectl(&["create", "clusterrolebinding", "proxy", role, account]);
    let token = world.server.kubectl(&["-n", "kube-system", "create", "token", "kube-proxy"]);
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}],\n\
         clusters: [{{name: c, cluster: {{server: \"https://192.0.2.1:{PORT}\", certificate-authority: {}}}}}],\n\
         users: [{{name: u, user: {{token: {}}}}}]}}\n",
        world.path("server/pki/ca.crt").display(),
        token.trim()
    );
    fs::write(world.path("proxy.kubeconfig"), text).expect("a file");
}

const OBJECTS: &str = r"
apiVersion: v1
kind: Node
metadata: {name: node}
spec: {podCIDR: 10.244.0.0/16, podCIDRs: [10.244.0.0/16]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.244.1.2], nodeName: node, conditions: {ready: true}}]
";

/// The rules of the node, without what counts by itself.
fn rules(world: &World) -> String {
    let [new, old] = [&["nft", "-s", "list", "ruleset"][..], &["iptables-save"]]
        .map(|words| String::from_utf8_lossy(&world.node.output(words).stdout).into_owned());
    let lines = old.lines().filter(|line| !line.starts_with('#'));
    let without_counters = lines.map(|line| line.split(" [").next().unwrap_or_default());
    [new].into_iter().chain(without_counters.map(str::to_owned)).collect()
}

fn packets_follow_kubectl(mode: &str, credentials: fn(&World)) {
    let mut world = World::new();
    world.server.apply(OBJECTS);
    world.server.kubectl(&[
        "patch",
        "node",
        "node",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}"#,
    ]);
    let address =
        world.server.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    let cluster = format!("{address}:80");
    credentials(&world);
    let _proxy = world.proxy(mode, "proxy.kubeconfig");
    world.answers(&world.client, NODE_PORT, "one");
    world.answers(&world.node, &cluster, "one");
    world.point_to("10.244.2.2");
    world.answers(&world.client, NODE_PORT, "two");
    world.answers(&world.node, &cluster, "two");

    // the server dies: rules stay, and packets go where they went
    let before = rules(&world);
    world.server.kill();
    for _ in 0..5 {
        assert_eq!(get(world.client.ns(), NODE_PORT).expect("an answer"), "two");
        assert_eq!(get(world.node.ns(), &cluster).expect("an answer"), "two");
    }
    assert_eq!(rules(&world), before, "nobody has touched the rules");

    // it comes back with what it knew, and is followed again
    world.server.start_again();
    assert_eq!(rules(&world), before, "{}", world.logs());
    world.point_to("10.244.1.2");
    world.answers(&world.client, NODE_PORT, "one");
    world.answers(&world.node, &cluster, "one");
    world.server.kubectl(&["delete", "service", "web"]);
    wait_until("the service to be gone", || get(world.client.ns(), NODE_PORT).err());
    wait_until("its rules to be gone", || (!rules(&world).contains(&address)).then_some(()));
}

#[test]
fn packets_follow_kubectl_in_mode_nftables() {
    packets_follow_kubectl("nftables", with_certificate);
}

#[test]
fn packets_follow_kubectl_in_mode_iptables() {
    packets_follow_kubectl("iptables", with_token);
}
