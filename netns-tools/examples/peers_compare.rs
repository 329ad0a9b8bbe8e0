//! How fast can a kernel be told of thousands of remote nodes, and in which layout?
//!
//! In a throw-away namespace with a VXLAN device, for 1 000, 5 000 and 10 000 remote nodes: the time to make the entries, to change those
//! of one node, to list them and to delete all; kernel memory by `/proc/meminfo` (`Slab`, so a rough figure on a machine that is not idle).
//!
//! | layout | what |
//! | --- | --- |
//! | plain | route over a gateway (onlink), neighbour, forwarding entry |
//! | plain, fdb first | the same, kind by kind, routes last |
//! | spread | plain, each route with a metric of its own, so that next hops do not share one chain of the kernel's hash table |
//! | objects | a nexthop object more, which the route names |
//! | IPv6 | plain, of the other family |
//!
//! `floor` is the time of plain messages that were put together before, sent 512 at a time over a bare socket: the least that a batch
//! of the same messages can take.
//!
//! ```text
//! cargo run --release -p netns-tools --example peers_compare [RUNS]
//! ```

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netns_tools::link::new::NewLink;
use netns_tools::testing::TestNetns;
use netns_tools::{
    Change, FdbEntry, MacAddr, Netlink, Nexthop, Object, PermanentNeighbour, Route, RoutesOf, Vxlan,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PROTOCOL: u8 = 104;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Plain,
    FdbFirst,
    Spread,
    Objects,
    V6,
}

const LAYOUTS: [(Layout, &str); 5] = [
    (Layout::Plain, "plain"),
    (Layout::FdbFirst, "plain, fdb first"),
    (Layout::Spread, "spread"),
    (Layout::Objects, "objects"),
    (Layout::V6, "IPv6"),
];

/// A remote node, by number.
struct Peer {
    link: u32,
    number: u32,
}

impl Peer {
    fn bytes(&self) -> [u8; 2] {
        [(self.number >> 8).to_le_bytes()[0], self.number.to_le_bytes()[0]]
    }

    fn mac(&self, generation: u8) -> MacAddr {
        let [high, low] = self.bytes();
        MacAddr([2, 0, 0, generation, high, low])
    }

    fn gateway(&self, layout: Layout) -> IpAddr {
        let [high, low] = self.bytes();
        if layout == Layout::V6 {
            let number = u16::from_be_bytes([high, low]);
            return Ipv6Addr::new(0xfd00, 0x10, 0, number, 0, 0, 0, 0).into();
        }
        Ipv4Addr::new(10, high, low, 0).into()
    }

    fn route(&self, layout: Layout) -> Object {
        let gateway = self.gateway(layout);
        let prefix = if gateway.is_ipv4() { 24 } else { 64 };
        let mut route = Route {
            dst: IpNetwork::new(gateway, prefix).expect("the prefix fits the family"),
            protocol: Some(PROTOCOL),
            ..Route::default()
        };
        if layout == Layout::Objects {
            route.nexthop = Some(self.number + 1);
        } else {
            route.gateway = Some(gateway);
            route.oif = Some(self.link);
            route.onlink = true;
        }
        if layout == Layout::Spread {
            route.priority = Some(self.number + 1);
        }
        Object::Route(route)
    }

    fn near(&self, layout: Layout, generation: u8) -> [Object; 2] {
        let [high, low] = self.bytes();
        let (mac, address) = (self.mac(generation), self.gateway(layout));
        let remote = IpAddr::from([172, 16, high, low]);
        [
            Object::Neighbour(PermanentNeighbour { link: self.link, address, mac }),
            Object::Fdb(FdbEntry::new(self.link, mac, remote)),
        ]
    }

    fn nexthop(&self, layout: Layout) -> Option<Object> {
        (layout == Layout::Objects).then(|| {
            Object::Nexthop(Nexthop {
                id: self.number + 1,
                gateway: Some(self.gateway(layout)),
                oif: Some(self.link),
                onlink: true,
                protocol: PROTOCOL,
            })
        })
    }
}

fn objects(link: u32, count: u32, layout: Layout) -> Vec<Object> {
    let peers = || (0..count).map(|number| Peer { link, number });
    if layout == Layout::FdbFirst {
        let near = |at: usize| {
            peers().map(move |peer| {
                let near = peer.near(layout, 0);
                near.into_iter().nth(at).expect("there are two")
            })
        };
        return near(1).chain(near(0)).chain(peers().map(|peer| peer.route(layout))).collect();
    }
    let of = |peer: Peer| {
        let own = peer.near(layout, 0).into_iter().chain(peer.nexthop(layout));
        own.chain([peer.route(layout)]).collect::<Vec<_>>()
    };
    peers().flat_map(of).collect()
}

/// What one layout took.
#[derive(Default)]
struct Times {
    make: Vec<Duration>,
    change: Vec<Duration>,
    list: Vec<Duration>,
    delete: Vec<Duration>,
    kib: Vec<i64>,
}

fn device(ns: &TestNetns) -> Outcome<(Netlink, u32)> {
    let mut net = ns.netlink();
    net.add_vxlan(&NewLink::new("heddle.1"), &Vxlan::new(1, IpAddr::from([192, 0, 2, 1])))?;
    ns.configure("lo", &[]);
    ns.configure("heddle.1", &["10.255.255.0/32"]);
    Ok((net, ns.link("heddle.1").index))
}

fn all(net: &mut Netlink, changes: impl IntoIterator<Item = Change>) -> Outcome<Duration> {
    let start = Instant::now();
    let outcome = net.apply(changes)?;
    let took = start.elapsed();
    match outcome.refused.first() {
        Some(refused) => Err(refused.error.to_string().into()),
        None if outcome.unknown > 0 => Err("answers were lost".into()),
        None => Ok(took),
    }
}

fn measure(layout: Layout, count: u32, times: &mut Times) -> Outcome<()> {
    let ns = TestNetns::new("peers");
    let (mut net, link) = device(&ns)?;
    let objects = objects(link, count, layout);
    let before = slab();
    times.make.push(all(&mut net, objects.iter().cloned().map(Change::replace))?);
    times.kib.push(slab() - before);

    // A node comes back with another MAC: the neighbour changes, one entry goes, one comes.
    let peer = Peer { link, number: count / 2 };
    let [neighbour, fdb] = peer.near(layout, 1);
    let [_, old] = peer.near(layout, 0);
    let route = peer.route(layout);
    let there = [
        Change::replace(neighbour),
        Change::replace(fdb.clone()),
        Change::delete(old.clone()),
        Change::replace(route),
    ];
    times.change.push(all(&mut net, there)?);
    all(&mut net, [Change::delete(fdb), Change::replace(old)])?;

    let start = Instant::now();
    let only = RoutesOf { protocol: Some(PROTOCOL), oif: Some(link), table: None };
    let seen = (net.routes_of(only)?.len(), net.neighbours(link)?.len(), net.fdb(link)?.len());
    times.list.push(start.elapsed());
    if seen.0 < count as usize || seen.2 != count as usize {
        return Err(format!("{seen:?} instead of {count}").into());
    }
    times.delete.push(all(&mut net, objects.into_iter().rev().map(Change::delete))?);
    Ok(())
}

/// Kernel memory for small objects, in KiB.
fn slab() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    number.unwrap_or_default()
}

fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

fn main() -> Outcome<()> {
    let runs: u32 = std::env::args().nth(1).map_or(Ok(5), |runs| runs.parse())?;
    println!("medians of {runs}: milliseconds; bytes of kernel memory for each node");
    println!(
        "{:<20}{:>7}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "", "nodes", "make", "one", "list", "delete", "memory"
    );
    for count in [1000, 5000, 10_000] {
        let mut table: Vec<_> =
            LAYOUTS.map(|(layout, name)| (layout, name, Times::default())).into();
        // Alternately, so that what else the machine does hits all alike.
        for _ in 0..runs {
            for (layout, _, times) in &mut table {
                measure(*layout, count, times)?;
            }
        }
        for (_, name, times) in &mut table {
            let ms = |list: &mut Vec<Duration>| median(list).as_secs_f64() * 1e3;
            println!(
                "{name:<20}{count:>7}{:>9.1}{:>9.2}{:>9.1}{:>9.1}{:>9}",
                ms(&mut times.make),
                ms(&mut times.change),
                ms(&mut times.list),
                ms(&mut times.delete),
                median(&mut times.kib) * 1024 / i64::from(count),
            );
        }
    }
    Ok(())
}
