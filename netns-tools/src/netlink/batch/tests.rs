//! Batches: bytes, answers that are lost, and what the kernel makes of thousands.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::NLMSG_ERROR;

use super::super::reply::tests::message;
use super::*;
use crate::link::new::NewLink;
use crate::link::vxlan::Vxlan;
use crate::mac::MacAddr;
use crate::route::RoutesOf;
use crate::testing::TestNetns;

fn neighbour(link: u32, last: u8) -> Object {
    let mac = MacAddr([2, 0, 0, 0, 0, last]);
    Object::Neighbour(PermanentNeighbour { link, address: IpAddr::from([10, 9, 0, last]), mac })
}

#[test]
fn every_message_begins_where_the_one_before_ends() {
    let route = Route { dst: "10.9.0.0/24".parse().unwrap(), oif: Some(3), ..Route::default() };
    let nexthop = Nexthop { id: 9, gateway: None, oif: Some(3), onlink: false, protocol: 104 };
    let fdb = FdbEntry::new(3, MacAddr([2; 6]), IpAddr::from([192, 0, 2, 1]));
    let objects = [
        Object::Route(route),
        neighbour(3, 1),
        Object::Fdb(fdb),
        Object::Nexthop(nexthop),
        Object::Link(3),
    ];
    let kinds = [(24, 25), (28, 29), (28, 29), (104, 105), (16, 17)];
    for (object, (new, delete)) in objects.into_iter().zip(kinds) {
        let table = [
            (Change::add(object.clone()), new, 0x601),
            (Change::append(object.clone()), new, 0xc01),
            (Change::replace(object.clone()), new, 0x501),
            (Change::delete(object.clone()), delete, 1),
        ];
        for (change, kind, flags) in table {
            let mut bytes = vec![7; 8];
            change.write(5, 0, &mut bytes);
            let length = u32::from_ne_bytes(bytes[8..12].try_into().unwrap());
            assert_eq!(length as usize, bytes.len() - 8);
            assert_eq!(length % 4, 0);
            let mut body = Vec::new();
            object.write(change.verb, &mut body);
            assert_eq!(bytes[8..], message(kind, flags, 5, &body), "{change:?}");
        }
    }
}

/// A wire that answers each datagram from a script: positions that are refused, and where answers are lost.
struct Kernel {
    datagrams: VecDeque<Vec<Said>>,
    queue: VecDeque<Said>,
    first: u32,
    count: u32,
    lengths: Vec<u32>,
}

#[derive(Clone, Copy)]
enum Said {
    /// The change at this place of the datagram is refused.
    No(u32),
    /// The last is made.
    End,
    /// Something was lost.
    Lost,
    /// An answer to something else.
    Foreign,
    /// Nothing comes, whoever waits.
    Silence,
}

use Said::{End, Foreign, Lost, No, Silence};

impl Wire for Kernel {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let number = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        (self.first, self.count) = (number(8), 0);
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(number(at + 8), self.first + self.count);
            let last = at + number(at) as usize == bytes.len();
            // An acknowledgement is asked for at the end only.
            assert_eq!(bytes[at + 6] & 4 != 0, last);
            (at, self.count) = (at + number(at) as usize, self.count + 1);
        }
        self.lengths.push(self.count);
        self.queue = self.datagrams.pop_front().expect("a datagram too many").into();
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, wait: bool) -> io::Result<usize> {
        let (sequence, code) = match self.queue.pop_front() {
            Some(No(at)) => (self.first + at, -libc::EEXIST),
            Some(End) => (self.first + self.count - 1, 0),
            Some(Foreign) => (self.first.wrapping_sub(3), -libc::EPERM),
            Some(Lost) => return Err(io::Error::from_raw_os_error(libc::ENOBUFS)),
            Some(Silence) => return Err(io::ErrorKind::WouldBlock.into()),
            None => {
                assert!(!wait, "it would wait for ever");
                return Err(io::ErrorKind::WouldBlock.into());
            }
        };
        let payload = [&code.to_ne_bytes()[..], &[0; 16]].concat();
        buffer.extend(message(NLMSG_ERROR, 0, sequence, &payload));
        Ok(buffer.len())
    }
}

fn play(count: usize, datagrams: &[&[Said]]) -> (std::result::Result<Outcome, Failure>, Vec<u32>) {
    let datagrams = datagrams.iter().map(|said| said.to_vec()).collect();
    let (queue, lengths) = (VecDeque::new(), Vec::new());
    let kernel = Kernel { datagrams, queue, first: 0, count: 0, lengths };
    let mut exchange = Exchange::new(kernel);
    let outcome = exchange.apply((0..count).map(|_| Change::add(neighbour(3, 1))));
    assert!(exchange.wire().datagrams.is_empty(), "the whole script was played");
    (outcome, std::mem::take(&mut exchange.wire().lengths))
}

/// Made, refused (by place), unknown.
fn sum(outcome: &Outcome) -> (usize, Vec<usize>, usize) {
    (
        outcome.made,
        outcome.refused.iter().map(|refused| refused.position).collect(),
        outcome.unknown,
    )
}

#[test]
fn what_is_not_refused_was_made_unless_answers_were_lost() {
    let table: [(usize, &[&[Said]], _); 7] = [
        (0, &[], (0, vec![], 0)),
        (3, &[&[End]], (3, vec![], 0)),
        (3, &[&[Foreign, No(0), No(1), End]], (1, vec![0, 1], 0)),
        // The last one is refused: that is the end too.
        (3, &[&[No(0), No(2)]], (1, vec![0, 2], 0)),
        (3, &[&[Lost, No(1), End]], (0, vec![1], 2)),
        // The end is what was lost.
        (3, &[&[Lost, No(0)]], (0, vec![0], 2)),
        (DATAGRAM + 2, &[&[Lost, No(9)], &[No(1)]], (1, vec![9, DATAGRAM + 1], DATAGRAM - 1)),
    ];
    for (count, script, want) in table {
        let (outcome, lengths) = play(count, script);
        assert_eq!(sum(&outcome.unwrap()), want, "{count}");
        assert!(lengths.iter().all(|length| *length as usize <= DATAGRAM));
    }
    let (outcome, _) = play(3, &[&[No(0), Silence]]);
    assert!(matches!(outcome, Err(Failure::Socket { .. })));
}

/// A namespace with a VXLAN device that is up.
fn namespace() -> (TestNetns, Netlink, u32) {
    let ns = TestNetns::new("batch");
    let mut net = ns.netlink();
    let vxlan = Vxlan::new(1, IpAddr::from([192, 0, 2, 1]));
    net.add_vxlan(&NewLink::new("heddle.1"), &vxlan).unwrap();
    // Without any local address, such as that of `lo`, IPv4 takes no address for a gateway.
    ns.configure("lo", &[]);
    ns.configure("heddle.1", &[]);
    let link = ns.link("heddle.1").index;
    (ns, net, link)
}

/// The three entries of one remote node.
fn peer(link: u32, number: u16) -> [Object; 3] {
    let [high, low] = number.to_be_bytes();
    let mac = MacAddr([2, 0, 0, 0, high, low]);
    let gateway = Ipv4Addr::new(10, high, low, 0);
    let route = Route {
        dst: format!("{gateway}/24").parse().unwrap(),
        gateway: Some(gateway.into()),
        oif: Some(link),
        onlink: true,
        protocol: Some(104),
        ..Route::default()
    };
    [
        Object::Route(route),
        Object::Neighbour(PermanentNeighbour { link, address: gateway.into(), mac }),
        Object::Fdb(FdbEntry::new(link, mac, IpAddr::from([172, 16, high, low]))),
    ]
}

#[test]
fn thousands_are_made_listed_and_deleted() {
    const PEERS: u16 = 1200;
    let (_ns, mut net, link) = namespace();
    let peers = || (0..PEERS).flat_map(|number| peer(link, number));
    let all = usize::from(PEERS) * 3;
    let made = net.apply(peers().map(Change::add)).unwrap();
    assert_eq!(sum(&made), (all, vec![], 0));
    let ours = RoutesOf { protocol: Some(104), oif: Some(link), ..RoutesOf::default() };
    let count = |net: &mut Netlink| {
        let neighbours = net.neighbours(link).unwrap();
        let permanent = neighbours.iter().filter(|(_, neighbour)| neighbour.permanent).count();
        (net.routes_of(ours).unwrap().len(), permanent, net.fdb(link).unwrap().len())
    };
    assert_eq!(count(&mut net), (1200, 1200, 1200));
    // Every single one is refused, and told.
    let again = net.apply(peers().map(Change::add)).unwrap();
    assert_eq!(sum(&again), (0, (0..all).collect(), 0));
    assert!(again.refused.iter().all(|refused| refused.error.is_exists()));
    let replaced = net.apply(peers().map(Change::replace)).unwrap();
    assert_eq!(sum(&replaced), (all, vec![], 0));
    assert_eq!(count(&mut net), (1200, 1200, 1200));
    let deleted = net.apply(peers().map(Change::delete)).unwrap();
    assert_eq!(sum(&deleted), (all, vec![], 0));
    assert_eq!(count(&mut net), (0, 0, 0));
}

#[test]
fn each_refusal_names_its_change_and_the_kernels_reason() {
    let (ns, mut net, link) = namespace();
    let [route, near, fdb] = peer(link, 7);
    let off_link = Route {
        dst: "10.9.0.0/24".parse().unwrap(),
        gateway: Some(IpAddr::from([203, 0, 113, 1])),
        ..Route::default()
    };
    let nexthop = Nexthop { id: 5, gateway: None, oif: Some(4711), onlink: false, protocol: 104 };
    let changes = [
        Change::add(route.clone()),
        Change::delete(neighbour(link, 9)),
        Change::add(Object::Route(off_link)),
        Change::add(near),
        Change::add(Object::Nexthop(nexthop)),
        Change::add(fdb.clone()),
        Change::replace(neighbour(4711, 1)),
        Change::delete(Object::Link(4711)),
        Change::add(fdb),
    ];
    let outcome = net.apply(changes).unwrap();
    assert_eq!(sum(&outcome), (3, vec![1, 2, 4, 6, 7, 8], 0));
    let texts: Vec<String> = outcome.refused.iter().map(|r| r.error.to_string()).collect();
    assert!(outcome.refused[0].error.is_not_found());
    let starts = [
        "cannot delete neighbour 10.9.0.9 at 02:00:00:00:00:09 of link",
        "cannot add route 10.9.0.0/24 via 203.0.113.1: Network is unreachable (Nexthop has invalid gateway)",
        "cannot add nexthop 5 on link 4711: ",
        "cannot replace neighbour 10.9.0.1 at ",
        "cannot delete link 4711: ",
        "cannot add forwarding entry 02:00:00:00:00:07 to 172.16.0.7 on link ",
    ];
    for (text, start) in texts.iter().zip(starts) {
        assert!(text.starts_with(start), "{text}");
    }
    assert!(ns.cmd(&["ip", "route"]).contains("10.0.7.0/24"));
    // A link is not made this way, whether or not there is one.
    let changes = [link, 4711].map(Object::Link);
    let changes = changes.into_iter().flat_map(|o| [Change::add(o.clone()), Change::replace(o)]);
    assert_eq!(sum(&net.apply(changes).unwrap()), (0, vec![0, 1, 2, 3], 0));
    assert!(net.link_by_index(4711).unwrap().is_none());
    // It goes too.
    let outcome = net.apply([Change::delete(Object::Link(link))]).unwrap();
    assert_eq!(sum(&outcome), (1, vec![], 0));
    assert_eq!(net.link("heddle.1").unwrap(), None);
}

#[test]
fn answers_that_find_no_room_are_missed_not_taken_for_success() {
    let (_ns, mut net, link) = namespace();
    net.apply((0..300).flat_map(|number| peer(link, number)).map(Change::add)).unwrap();
    // As small as the kernel lets it be.
    let mut changes = (0..170).flat_map(|number| peer(link, number)).map(Change::add);
    let part: Vec<_> = changes.by_ref().collect();
    let small: libc::c_int = 1;
    super::super::set_option(&net.exchange.wire().0, libc::SO_RCVBUF, &small).unwrap();
    let outcome = net.exchange.apply(part).unwrap();
    assert_eq!(outcome.made, 0);
    assert!(outcome.unknown > 0);
    assert_eq!(outcome.unknown + outcome.refused.len(), 510);
    // The socket is as good as new.
    let outcome = net.apply(peer(link, 301).map(Change::add)).unwrap();
    assert_eq!(sum(&outcome), (3, vec![], 0));
    assert!(net.link("heddle.1").unwrap().is_some());
}
