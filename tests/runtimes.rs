//! The plugins under other runtimes than Heddle's own agent: containerd's own CNI caller, and podman with its CNI backend.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use heddle_tests::containerd::{Containerd, image};
use heddle_tests::{bin_dir, get, run, wait_until};
use netns_tools::testing::TestNetns;
use serde_json::json;
use tempfile::TempDir;

const IMAGE: &str = "heddle.dev/demo/busybox:1";
const SERVE: &str = "echo hello >/www/index.html; exec httpd -f -p 8080 -h /www";
/// How a container tells its address.
const ADDRESS: &str = "ip -4 -o addr show dev eth0 | sed 's/.*inet //; s,/.*,,'";

/// A host with nothing but the plugins and a network list.
struct Host {
    ns: TestNetns,
    dir: TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = TempDir::new().expect("a folder");
        let (bin, lists) = (dir.path().join("cni/bin"), dir.path().join("net.d"));
        fs::create_dir_all(&lists).expect("a folder");
        run(Command::new(bin_dir().join("heddle-cni")).args(["install", "--bin-dir"]).arg(&bin));
        let ns = TestNetns::new("runtime");
        ns.cmd(&["ip", "link", "set", "lo", "up"]);
        let host = Self { ns, dir };
        fs::write(lists.join("10-test.conflist"), host.list().to_string()).expect("the list");
        host
    }

    fn list(&self) -> serde_json::Value {
        let bridge = json!({
            "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": self.at("leases"), "ranges": [[{ "subnet": "10.89.0.0/24" }]],
            },
        });
        // the list that podman makes for a network of its own
        let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        let firewall =
            json!({ "type": "firewall", "backend": "iptables", "dataDir": self.at("firewall") });
        let tuning = json!({ "type": "tuning", "dataDir": self.at("tuning") });
        let plugins = [bridge, portmap, firewall, tuning];
        json!({ "cniVersion": "0.4.0", "name": "test", "plugins": plugins })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command in the host's network.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.ns.ns().path().display())).arg(program);
        command
    }

    /// GC of the network's plugins, with no attachment in use.
    fn collect_garbage(&self) {
        for plugin in self.list()["plugins"].as_array().expect("plugins") {
            let kind = plugin["type"].as_str().expect("a type");
            let mut conf = plugin.clone();
            conf["cniVersion"] = json!("1.1.0");
            conf["name"] = json!("test");
            conf["cni.dev/valid-attachments"] = json!([]);
            let mut child = self
                .command(&self.at("cni/bin").join(kind).display().to_string())
                .env("CNI_COMMAND", "GC")
                .env("CNI_PATH", self.at("cni/bin"))
                .stdin(Stdio::piped())
                .spawn()
                .expect("the plugin starts");
            let mut stdin = child.stdin.take().expect("a pipe");
            stdin.write_all(conf.to_string().as_bytes()).expect("the plugin reads");
            drop(stdin);
            assert!(child.wait().expect("it ends").success(), "GC of {kind}");
        }
    }

    /// Nothing of any container is left.
    fn assert_empty(&self) {
        let leases = fs::read_dir(self.at("leases/test")).into_iter().flatten().flatten();
        let names = leases.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let left: Vec<_> = names.filter(|name| name.starts_with("10.")).collect();
        assert!(left.is_empty(), "leases: {left:?}");
        let links = self.ns.cmd(&["ip", "-o", "link", "show", "type", "veth"]);
        assert_eq!(links, "");
        let rules = self.ns.cmd(&["iptables-save"]);
        let left: Vec<_> = rules.lines().filter(|line| line.contains("10.89.0.")).collect();
        assert!(left.is_empty(), "rules: {left:?}");
    }
}

/// `ctr run --cni` looks at fixed places, so it gets a view of the file system in which they are ours.
fn ctr(host: &Host, containerd: &Containerd, args: &[&str]) -> Command {
    let script = format!(
        "mount -t tmpfs none /opt && mkdir /opt/cni && cp -a {bin} /opt/cni/ && mount --bind {lists} /etc/cni/net.d && exec \"$@\"",
        bin = host.at("cni/bin").display(),
        lists = host.at("net.d").display(),
    );
    let mut command = host.command("unshare");
    command
        .args(["--mount", "sh", "-c", &script, "sh", "ctr", "--address"])
        .arg(containerd.address());
    command.args(args);
    command
}

#[test]
fn containerds_own_caller() {
    let (host, containerd) = (Host::new(), Containerd::start());
    run(containerd.ctr().args(["images", "import"]).arg(image(host.dir.path())));
    fs::create_dir_all("/etc/cni/net.d").expect("the folder to mount over");
    let tell = ["run", "--rm", "--cni", IMAGE, "first", "sh", "-c", ADDRESS];
    let address = run(&mut ctr(&host, &containerd, &tell));
    assert_eq!(address.trim(), "10.89.0.2");
    host.assert_empty();

    let serve = ["run", "--detach", "--cni", IMAGE, "second", "sh", "-c", SERVE];
    run(&mut ctr(&host, &containerd, &serve));
    let answer = wait_until("the container to answer", || get(host.ns.ns(), "10.89.0.3:8080").ok());
    assert_eq!(answer, "hello");
    // ctr calls DEL only for a container that it runs to its end: this one's attachment leaks
    run(containerd.ctr().args(["tasks", "kill", "--signal", "9", "second"]));
    run(containerd.ctr().args(["tasks", "delete", "--force", "second"]));
    run(containerd.ctr().args(["containers", "delete", "second"]));
    assert!(host.at("leases/test/10.89.0.3").exists());
    host.collect_garbage();
    host.assert_empty();
}

#[test]
fn podman_with_its_cni_backend() {
    let host = Host::new();
    let podman = Podman::new(&host);
    run(podman.command().args(["load", "--input"]).arg(image(host.dir.path())));
    let serve = in_image(&["--detach", "--name", "web", "--publish", "18080:8080"], SERVE);
    run(podman.command().args(serve));
    let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = run(podman.command().args(["inspect", "--format", template, "web"]));
    let url = format!("{}:8080", address.trim());
    let answer = wait_until("the container to answer", || get(host.ns.ns(), &url).ok());
    assert_eq!(answer, "hello");
    // the published port, from the host itself
    host.ns.cmd(&["ip", "addr", "add", "198.18.91.1/32", "dev", "lo"]);
    for address in ["127.0.0.1:18080", "198.18.91.1:18080"] {
        assert_eq!(get(host.ns.ns(), address).expect("the published port answers"), "hello");
    }
    let fetch = format!("wget -qO- http://{url}");
    let said = run(podman.command().args(in_image(&["--rm"], &fetch)));
    assert_eq!(said.trim(), "hello");
    run(podman.command().args(["rm", "--force", "--time", "0", "web"]));
    host.assert_empty();
}

/// A podman with everything of its own in a test's folder.
struct Podman<'a> {
    host: &'a Host,
    configuration: PathBuf,
}

impl<'a> Podman<'a> {
    fn new(host: &'a Host) -> Self {
        let configuration = host.at("containers.conf");
        let text = format!(
            "[network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{}\"]\nnetwork_config_dir = \"{}\"\ndefault_network = \"test\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n",
            host.at("cni/bin").display(),
            host.at("net.d").display(),
        );
        fs::write(&configuration, text).expect("the configuration");
        Self { host, configuration }
    }

    fn command(&self) -> Command {
        let mut command = self.host.command("podman");
        command.env("CONTAINERS_CONF", &self.configuration);
        for (flag, folder) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(self.host.at(folder));
        }
        command.args(["--storage-driver", "vfs"]);
        command
    }
}

/// Arguments that run a script in the demo's image.
fn in_image<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    // podman's own limits are above what a machine without CAP_SYS_RESOURCE may set
    let limits = ["--ulimit", "nofile=16384:16384", "--ulimit", "nproc=32768:32768"];
    let mut arguments = vec!["run", "--network", "test"];
    arguments.extend(limits);
    arguments.extend(options);
    arguments.extend([IMAGE, "sh", "-c", script]);
    arguments
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        // ends what a failed test left running
        let _ = self.command().args(["rm", "--all", "--force", "--time", "0"]).output();
    }
}
