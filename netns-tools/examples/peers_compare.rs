//! How fast can a kernel be told of thousands of remote nodes, and in which layout?
//!
//! In a throw-away namespace with a VXLAN device, for 1 000, 5 000 and 10 000 remote nodes: the time to make the entries, to change those
//! of one node, to list them and to delete all; kernel memory by `/proc/meminfo` (`Slab`, so a rough figure on a machine that is not idle).
//!
//! | layout | what |
//! | --- | --- |
//! | plain | route over a gateway (onlink), neighbour, forwarding entry |
//! | plain, fdb first | the same, kind by kind, routes last |
//! | 256 metrics | plain, with `route::spread_metric` for each route, so that next hops do not share one chain of the kernel's hash table |
//! | spread | plain, with a metric for each route |
//! | objects | a nexthop object more, which the route names |
//! | IPv6 | plain, of the other family |
//!
//! The floors are the times of messages like those of "plain" and of "spread" that another library (netlink-packet-route) put together
//! before, sent 512 at a time over a bare socket: about the least that a batch of them can take. "unfiltered" is the time to list every
//! route of the namespace, of which "list" is told only our own. "device" is the time to delete the device, with all that is on it.
//!
//! ```text
//! cargo run --release -p netns-tools --example peers_compare [RUNS]
//! ```

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use netns_tools::link::new::NewLink;
use netns_tools::route::spread_metric;
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
    Metrics,
    Spread,
    Objects,
    V6,
}

const LAYOUTS: [(Layout, &str); 6] = [
    (Layout::Plain, "plain"),
    (Layout::FdbFirst, "plain, fdb first"),
    (Layout::Metrics, "256 metrics"),
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
        route.priority = match layout {
            Layout::Spread => Some(self.number + 1),
            Layout::Metrics => spread_metric(route.dst),
            _ => None,
        };
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
    unfiltered: Vec<Duration>,
    delete: Vec<Duration>,
    device: Vec<Duration>,
    floor: Vec<Duration>,
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
    let start = Instant::now();
    let every = net.routes()?.len();
    times.unfiltered.push(start.elapsed());
    if every <= count as usize {
        return Err(format!("{every} routes").into());
    }
    let deletions = objects.iter().rev().cloned().map(Change::delete);
    times.delete.push(all(&mut net, deletions)?);

    all(&mut net, objects.into_iter().map(Change::replace))?;
    let start = Instant::now();
    net.delete_link(link)?;
    times.device.push(start.elapsed());
    if matches!(layout, Layout::Plain | Layout::Spread) {
        times.floor.push(floor(layout == Layout::Spread, count)?);
    }
    Ok(())
}

/// The same entries, put together by another library before the clock starts, over a bare socket.
fn floor(spread: bool, count: u32) -> Outcome<Duration> {
    let ns = TestNetns::new("floor");
    let (_net, link) = device(&ns)?;
    let messages: Vec<_> =
        (0..count).flat_map(|number| floor_messages(&Peer { link, number }, spread)).collect();
    let datagrams: Vec<Vec<u8>> = messages.chunks(512).map(datagram).collect();
    ns.run(|| {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let start = Instant::now();
        for datagram in &datagrams {
            socket.send(datagram, 0)?;
            let mut answer = Vec::with_capacity(4096);
            socket.recv(&mut answer, 0)?;
            if answer.get(16..20) != Some(&[0; 4]) {
                return Err("the bare socket's batch was refused".into());
            }
        }
        Ok(start.elapsed())
    })
}

/// Messages one behind the other, of which only the last asks for an acknowledgement.
fn datagram(messages: &[RouteNetlinkMessage]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let ack = if at + 1 == messages.len() { NLM_F_ACK } else { 0 };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE | ack;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message.clone()));
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }
    bytes
}

fn floor_messages(peer: &Peer, spread: bool) -> [RouteNetlinkMessage; 3] {
    let [high, low] = peer.bytes();
    let gateway = Ipv4Addr::new(10, high, low, 0);
    let mac = peer.mac(0).0.to_vec();
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: 24,
        table: 254,
        protocol: RouteProtocol::from(PROTOCOL),
        scope: RouteScope::Universe,
        kind: RouteType::Unicast,
        flags: RouteFlags::Onlink,
        ..RouteHeader::default()
    };
    route.attributes = vec![
        RouteAttribute::Destination(gateway.into()),
        RouteAttribute::Gateway(gateway.into()),
        RouteAttribute::Oif(peer.link),
    ];
    route.attributes.extend(spread.then_some(RouteAttribute::Priority(peer.number + 1)));
    let entry = |family, flags, destination: Ipv4Addr| {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        message.header.ifindex = peer.link;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = flags;
        message.attributes = vec![
            NeighbourAttribute::Destination(destination.into()),
            NeighbourAttribute::LinkLayerAddress(mac.clone()),
        ];
        RouteNetlinkMessage::NewNeighbour(message)
    };
    [
        RouteNetlinkMessage::NewRoute(route),
        entry(AddressFamily::Inet, NeighbourFlags::empty(), gateway),
        entry(AddressFamily::Bridge, NeighbourFlags::Own, Ipv4Addr::new(172, 16, high, low)),
    ]
}

/// Kernel memory for small objects, in KiB.
fn slab() -> i64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    number.unwrap_or_default()
}

/// The median, as a column.
fn milliseconds(list: &mut [Duration]) -> String {
    if list.is_empty() {
        return format!("{:>11}", "");
    }
    format!("{:>11.2}", median(list).as_secs_f64() * 1e3)
}

fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

fn main() -> Outcome<()> {
    let runs: u32 = std::env::args().nth(1).map_or(Ok(5), |runs| runs.parse())?;
    println!("medians of {runs}: milliseconds; bytes of kernel memory for each node");
    let heads =
        ["nodes", "make", "floor", "one", "list", "unfiltered", "delete", "device", "memory"];
    let line = heads.map(|head| format!("{head:>11}")).concat();
    println!("{:<18}{line}", "");
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
            let [make, floor, one, list, unfiltered, delete, device] = [
                &mut times.make,
                &mut times.floor,
                &mut times.change,
                &mut times.list,
                &mut times.unfiltered,
                &mut times.delete,
                &mut times.device,
            ]
            .map(|list| milliseconds(list));
            let memory = median(&mut times.kib) * 1024 / i64::from(count);
            println!(
                "{name:<18}{count:>11}{make}{floor}{one}{list}{unfiltered}{delete}{device}{memory:>11}"
            );
        }
    }
    Ok(())
}
