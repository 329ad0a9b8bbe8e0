//! The program as it is shipped: started in a namespace beside an API server, until traffic goes where the API says.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use serde_json::{Value, json};
use test_api_server::generate::{Plan, service, slice};
use test_api_server::{Server, ServerThread};

use crate::path;
use crate::subject::Mode;
use crate::topology::Topology;
use crate::usage::{Process, Spent};
use crate::world::{self, Size};
use crate::{Outcome, median};

/// The last service's endpoint moves so often. Even, so that the first server is the last again.
const MOVES: usize = 12;
/// The first sync of the slowest mode takes minutes.
const PATIENCE: Duration = Duration::from_mins(10);
/// Idleness is looked at from so long after the first sync on: what that left to do is done by then.
const BEFORE_IDLE: Duration = Duration::from_secs(12);
/// What a change waits behind may be a sync of everything.
const PATIENCE_OF_A_CHANGE: Duration = Duration::from_mins(2);

/// Times in milliseconds, memory in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// From the start of the process until a connection to the last service reaches its endpoint.
    pub first: f64,
    /// From the write of a slice to the API until a connection reaches the other endpoint: median and longest.
    pub change: f64,
    /// See `change`.
    pub change_worst: f64,
    /// What the process holds after the first sync, after the changes, and at most.
    pub memory: [f64; 3],
    /// Processor time per time of the program while nothing happens, in percent, if it was watched.
    pub idle: Option<f64>,
}

/// Measures the program at `agent` in namespaces of its own. It is watched doing nothing for as long as `idle`, if at all.
pub fn measure(agent: &Path, mode: Mode, size: Size, idle: Option<Duration>) -> Outcome<Figures> {
    let topology = Topology::new(size);
    let node = &topology.node;
    choose_variant(node, mode);
    let _servers = topology.serve()?;
    let api = ServerThread::start(node.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?)?;
    api.server.put_all(objects(size));
    let folder = Folder::new()?;
    let kubeconfig = folder.0.join("kubeconfig");
    std::fs::write(&kubeconfig, api.server.kubeconfig())?;
    node.run(|| Agent::start(agent, mode, &kubeconfig)?.measure(&api.server, size, idle))
}

/// A kubelet's chain says which variant of iptables a node uses.
fn choose_variant(node: &TestNetns, mode: Mode) {
    let programs = match mode {
        Mode::Nftables => return,
        Mode::IptablesNft => ["iptables-nft", "ip6tables-nft"],
        Mode::IptablesLegacy => ["iptables-legacy", "ip6tables-legacy"],
    };
    for program in programs {
        node.cmd(&[program, "-t", "mangle", "-N", "KUBE-KUBELET-CANARY"]);
    }
}

fn plan(size: Size) -> Plan {
    Plan {
        services: size.services,
        endpoints: size.endpoints,
        node: "bench-node".into(),
        ..Plan::default()
    }
}

fn objects(size: Size) -> impl Iterator<Item = Value> {
    let node = json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": "bench-node"},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": node_address()}]},
    });
    let services = (0..size.services).map(move |index| {
        let mut object = service(&plan(size), index);
        let address = world::cluster_ip(index).to_string();
        object["spec"]["clusterIP"] = json!(address);
        object["spec"]["clusterIPs"] = json!([address]);
        object
    });
    let slices = (0..size.last()).map(move |index| slice(&plan(size), index, 0));
    services.chain(slices).chain([last_slice(size, world::SERVER), node])
}

fn node_address() -> &'static str {
    world::NODE_ADDRESS.split('/').next().unwrap_or_default()
}

/// The slice of the last service, with one real server.
fn last_slice(size: Size, server: Ipv4Addr) -> Value {
    let one = Plan { endpoints: 1, ..plan(size) };
    let mut object = slice(&one, size.last(), 0);
    object["endpoints"][0]["addresses"] = json!([server.to_string()]);
    object
}

/// Removed with what is in it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Outcome<Self> {
        let path = std::env::temp_dir().join(netns_tools::testing::unique_name("bench"));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// The running program. It ends with this.
struct Agent {
    child: Child,
    started: Instant,
}

impl Agent {
    fn start(program: &Path, mode: Mode, kubeconfig: &Path) -> Outcome<Self> {
        let mode = if mode == Mode::Nftables { "nftables" } else { "iptables" };
        let mut command = Command::new(program);
        command.arg("proxy").arg("--kubeconfig").arg(kubeconfig).args(["--proxy-mode", mode]);
        command.args(["--hostname-override", "bench-node", "--cluster-cidr", "10.244.0.0/16"]);
        // of the whole host; a namespace has none of its own
        command.args(["--conntrack-max-per-core=0", "--oom-score-adj=0", "--v=0"]);
        let told =
            if std::env::var_os("BENCH_LOG").is_some() { Stdio::inherit() } else { Stdio::null() };
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(told).spawn();
        let child =
            child.map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        Ok(Self { child, started })
    }

    fn measure(mut self, api: &Server, size: Size, idle: Option<Duration>) -> Outcome<Figures> {
        let process = Process::of(self.child.id());
        self.wait_for(size, world::SERVER, PATIENCE, Duration::from_millis(1))?;
        let took = self.started.elapsed();
        let after_first = process.memory("VmRSS:")?;
        let mut changes = Vec::new();
        for server in [world::OTHER_SERVER, world::SERVER].into_iter().cycle().take(MOVES) {
            // the sync before is over, with what follows it
            std::thread::sleep(Duration::from_millis(300));
            let object = last_slice(size, server);
            let start = Instant::now();
            api.put(object);
            self.wait_for(size, server, PATIENCE_OF_A_CHANGE, Duration::from_micros(200))?;
            changes.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let idle = idle.map(|time| self.watch(took, time)).transpose()?;
        Ok(Figures {
            first: took.as_secs_f64() * 1e3,
            change_worst: changes.iter().copied().fold(0.0, f64::max),
            change: median(changes),
            memory: [after_first, process.memory("VmRSS:")?, process.memory("VmHWM:")?],
            idle,
        })
    }

    /// What part of the time it works, in percent, though nothing happens. `took`: the first sync.
    fn watch(&self, took: Duration, time: Duration) -> Outcome<f64> {
        std::thread::sleep(BEFORE_IDLE.saturating_sub(self.started.elapsed().saturating_sub(took)));
        let Spent { wall, cpu } = Process::of(self.child.id()).spend(time)?;
        Ok(100.0 * cpu / wall)
    }

    /// Makes connections to the last service until one reaches this server.
    fn wait_for(
        &mut self,
        size: Size,
        server: Ipv4Addr,
        patience: Duration,
        pause: Duration,
    ) -> Outcome {
        let end = Instant::now() + patience;
        let service = SocketAddr::from((world::cluster_ip(size.last()), world::PORT));
        while Instant::now() < end {
            if path::asked(&service) == Some(server.octets()[3]) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the program ended: {status}; BENCH_LOG=1 shows why").into());
            }
            std::thread::sleep(pause);
        }
        Err(format!("{service} does not lead to {server} after {patience:?}").into())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // it may be gone already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
