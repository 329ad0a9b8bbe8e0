//! What the loaders themselves need for the same rules.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use netns_tools::nftables::{Batch, Family, Nftables, Table};
use netns_tools::testing::TestNetns;

use crate::subject::Mode;
use crate::topology::{Connects, Topology};
use crate::world::{self, Size};
use crate::{Outcome, median};

/// Milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Floors {
    /// The loader, given everything in order of chain (iptables), or the maps (nftables).
    pub first: f64,
    /// iptables: the loader, given one service. nftables: the kernel's commit of next to nothing, over netlink, beside all rules.
    pub change: f64,
}

/// Measures them in a namespace of their own.
pub fn measure(mode: Mode, size: Size, rounds: usize) -> Outcome<Floors> {
    let ns = TestNetns::new("floor");
    if mode == Mode::Nftables {
        let first = load(&ns, &["nft", "-f", "-"], &maps(size)?)?;
        return Ok(Floors { first, change: smallest_commit(&ns, rounds)? });
    }
    let text = plan(&ns, mode, size)?;
    let program = format!("{}-restore", mode.word());
    let words = [&*program, "--noflush"];
    let first = load(&ns, &words, &sorted(&text))?;
    let service = one_service(&text);
    let times: Outcome<Vec<f64>> = (0..rounds).map(|_| load(&ns, &words, &service)).collect();
    Ok(Floors { first, change: median(times?) })
}

/// A map from services to the number of their endpoints and one from services and random numbers to endpoints: what nftables mode
/// has most of, in words that `nft` understands (it has none for all that the kernel can do).
fn maps(size: Size) -> Outcome<String> {
    const SERVICES: &str = "type ipv4_addr . inet_proto . inet_service : mark";
    const BACKENDS: &str =
        "type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service";
    let (mut services, mut backends) = (String::new(), String::new());
    for index in 0..size.services {
        let key = format!("{} . tcp . {}", world::cluster_ip(index), world::PORT);
        writeln!(services, "{key} : {},", size.endpoints)?;
        for number in 0..size.endpoints {
            let endpoint = world::endpoint(index * size.endpoints + number);
            writeln!(backends, "{key} . {number} : {endpoint} . {},", world::TARGET)?;
        }
    }
    Ok(format!(
        "table ip floor {{\nmap services {{ {SERVICES}; elements = {{ {services} }} }}\n\
         map backends {{ {BACKENDS}; elements = {{ {backends} }} }}\n}}\n"
    ))
}

/// The first transaction, as the backend itself would tell it in an empty namespace.
fn plan(ns: &TestNetns, mode: Mode, size: Size) -> Outcome<String> {
    let mut command = ns.command(&std::env::current_exe()?.to_string_lossy());
    let output =
        command.args(["plan", mode.word(), &size.to_string()]).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{mode} at {size} has no plan: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// How long a loader takes, in milliseconds.
fn load(ns: &TestNetns, words: &[&str], input: &str) -> Outcome<f64> {
    let start = Instant::now();
    let status = ns.run(|| -> Outcome<_> {
        let mut child = Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().ok_or("no pipe")?.write_all(input.as_bytes())?;
        Ok(child.wait()?)
    })?;
    if !status.success() {
        return Err(format!("{words:?}: {status}").into());
    }
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// By name of a chain: its declaration, its rules.
type Chains<'a> = BTreeMap<&'a str, (Option<&'a str>, Vec<&'a str>)>;

/// The tables of an input of `iptables-restore`.
#[derive(Default)]
struct Tables<'a> {
    tables: Vec<(&'a str, Chains<'a>)>,
}

impl<'a> Tables<'a> {
    fn parse(text: &'a str) -> Self {
        let mut all = Self::default();
        for line in text.lines() {
            let words: Vec<_> = line.splitn(3, ' ').collect();
            if let Some(name) = line.strip_prefix('*') {
                all.tables.push((name, BTreeMap::new()));
            } else if let (Some((_, chains)), Some(first)) = (all.tables.last_mut(), words.first())
            {
                if let Some(chain) = first.strip_prefix(':') {
                    chains.entry(chain).or_default().0 = Some(line);
                } else if matches!(*first, "-A" | "-I") && words.len() == 3 {
                    chains.entry(words[1]).or_default().1.push(line);
                }
            }
        }
        all
    }
}

/// The same input with chains and rules in order of chain, for which the loaders are made.
fn sorted(text: &str) -> String {
    let mut all = String::new();
    for (name, chains) in Tables::parse(text).tables {
        let declared = chains.values().filter_map(|(declaration, _)| *declaration);
        let rules = chains.values().flat_map(|(_, rules)| rules.iter().copied());
        let lines: Vec<_> = declared.chain(rules).collect();
        let _ = write!(all, "*{name}\n{}\nCOMMIT\n", lines.join("\n"));
    }
    all
}

/// The chains of one service, the last, written again.
fn one_service(text: &str) -> String {
    let tables = Tables::parse(text);
    let Some((_, chains)) = tables.tables.iter().find(|(name, _)| *name == "nat") else {
        return String::new();
    };
    let jumps = |chain: &str, to: &str| -> Vec<String> {
        let rules = chains.get(chain).map(|(_, rules)| rules.as_slice()).unwrap_or_default();
        let targets = rules.iter().filter_map(|rule| rule.rsplit_once("-j ").map(|(_, to)| to));
        targets.filter(|target| target.starts_with(to)).map(str::to_owned).collect()
    };
    let services = jumps("KUBE-SERVICES", "KUBE-SVC-");
    let Some(service) = services.iter().find(|service| chains.contains_key(service.as_str()))
    else {
        return String::new();
    };
    let mut own = vec![service.clone()];
    own.extend(jumps(service, "KUBE-SEP-"));
    let declared = own.iter().map(|chain| format!(":{chain} - [0:0]"));
    let rules = own.iter().filter_map(|chain| chains.get(chain.as_str()));
    let rules = rules.flat_map(|(_, rules)| rules.iter().map(ToString::to_string));
    let lines: Vec<_> = declared.chain(rules).collect();
    format!("*nat\n{}\nCOMMIT\n", lines.join("\n"))
}

/// A table comes and goes: what every change costs in the kernel, with all rules of the namespace loaded.
fn smallest_commit(ns: &TestNetns, rounds: usize) -> Outcome<f64> {
    const TABLE: Table<'static> = Table::new(Family::Inet, "floor");
    let mut nft = Nftables::open_in(ns.ns())?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        for add in [true, false] {
            let mut batch = Batch::new();
            if add {
                batch.add_table(TABLE);
            } else {
                batch.delete_table(TABLE);
            }
            let start = Instant::now();
            nft.commit(&batch)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(median(times))
}

/// What a connection costs that the least possible rules translate.
#[derive(Clone, Copy, Debug)]
pub struct Nat {
    /// One rule with one address.
    pub rule: Connects,
    /// One map.
    pub map: Connects,
}

/// Measures the translation itself, in namespaces of their own: what of a service's cost is the kernel's.
pub fn nat(size: Size) -> Outcome<Nat> {
    let (service, server) = (world::cluster_ip(size.last()), world::SERVER);
    let (port, target) = (world::PORT, world::TARGET);
    let rule = format!("ip daddr {service} tcp dport {port} dnat to {server}:{target}");
    let elements = format!("{{ {service} . {port} : {server} . {target} }}");
    let map = format!("meta l4proto tcp dnat ip to ip daddr . tcp dport map {elements}");
    let measure = |rule: &str| {
        let topology = Topology::new(size);
        let _servers = topology.serve()?;
        load(&topology.node, &["nft", "-f", "-"], &nat_table(rule))?;
        topology.connect(service)
    };
    Ok(Nat { rule: measure(&rule)?, map: measure(&map)? })
}

/// A rule where packets come in, and masquerade of what the node itself sent, as services need it.
fn nat_table(rule: &str) -> String {
    let (server, target) = (world::SERVER, world::TARGET);
    format!(
        "table ip floor {{\n\
         chain in {{ type nat hook prerouting priority dstnat; {rule}; }}\n\
         chain out {{ type nat hook output priority -100; {rule}; }}\n\
         chain post {{ type nat hook postrouting priority srcnat; fib saddr type local ct status dnat \
         ip daddr {server} tcp dport {target} masquerade fully-random; }}\n}}\n"
    )
}
