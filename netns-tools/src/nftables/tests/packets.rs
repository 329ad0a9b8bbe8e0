//! Real packets meet the rules.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::*;
use crate::testing::{End, veth_pair};

/// A client and a server, with a router in between.
struct Net {
    client: TestNetns,
    router: TestNetns,
    server: TestNetns,
}

const CLIENT: &str = "10.1.0.2";
const ROUTER: &str = "10.2.0.1";
const SERVER: &str = "10.2.0.2";

fn net() -> Net {
    let net = Net {
        client: TestNetns::new("nft"),
        router: TestNetns::new("nft"),
        server: TestNetns::new("nft"),
    };
    veth_pair(End(&net.client, "eth0", &["10.1.0.2/24"]), End(&net.router, "c0", &["10.1.0.1/24"]));
    veth_pair(End(&net.server, "eth0", &["10.2.0.2/24"]), End(&net.router, "s0", &["10.2.0.1/24"]));
    net.client.cmd(&["ip", "route", "add", "default", "via", "10.1.0.1"]);
    net.server.cmd(&["ip", "route", "add", "default", "via", "10.2.0.1"]);
    net.router.cmd(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    net
}

impl Net {
    /// Serves on the server until the test ends; each connection is told `port` and where it came from.
    fn serve(&self, port: u16) {
        let listener = self.server.run(move || TcpListener::bind(("0.0.0.0", port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let from = stream.peer_addr().map(|peer| peer.ip().to_string());
                let _ =
                    (&stream).write_all(format!("{port} {}", from.unwrap_or_default()).as_bytes());
            }
        });
    }

    fn fetch(&self, target: &str) -> std::io::Result<String> {
        let target: SocketAddr = target.parse().unwrap();
        self.client.run(move || {
            let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(10))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }
}

#[test]
fn masquerading_hides_the_client() {
    let net = net();
    net.serve(80);
    let server = format!("{SERVER}:80");
    assert_eq!(net.fetch(&server).unwrap(), format!("80 {CLIENT}"));
    let mut nft = open(&net.router);
    let mut batch = Batch::new();
    batch.add_table(INET);
    batch
        .add_chain(INET, &Chain::base("post", ChainKind::Nat, Hook::Postrouting, priority::SRCNAT));
    let client: std::net::IpAddr = CLIENT.parse().unwrap();
    let outside: IpNetwork = "10.1.0.0/24".parse().unwrap();
    let rule = INET.rule().saddr_eq(client).daddr_ne(outside).counter().masquerade();
    batch.add_rule(INET, "post", &rule);
    nft.commit(&batch).unwrap();
    assert_eq!(net.fetch(&server).unwrap(), format!("80 {ROUTER}"));
    let rules = nft.rules(INET, Some("post")).unwrap();
    assert!(rules[0].does(&rule), "whatever it has counted");
    let counted = |e: &Expr| matches!(e, Expr::Counter { packets, .. } if *packets > 0);
    assert!(rules[0].expressions.iter().any(counted), "{rules:?}");
}

/// The service proxy in small: address, protocol and port and a random number lead to an endpoint, in one look.
#[test]
fn a_map_leads_to_endpoints_at_random() {
    let net = net();
    net.serve(8001);
    net.serve(8002);
    let mut nft = open(&net.router);
    let service: Ipv4Addr = "10.96.0.1".parse().unwrap();
    let server: Ipv4Addr = SERVER.parse().unwrap();
    let key = [Type::Ipv4Addr, Type::InetProto, Type::InetService, Type::Mark];
    let mut batch = Batch::new();
    batch.add_table(INET);
    batch.add_set(INET, &Set::map("endpoints", &key, &[Type::Ipv4Addr, Type::InetService]));
    batch.add_chain(INET, &Chain::base("pre", ChainKind::Nat, Hook::Prerouting, priority::DSTNAT));
    let fields = [Field::IpDaddr, Field::L4Proto, Field::Dport, Field::Random(2)];
    batch.add_rule(INET, "pre", &INET.rule().dnat_map(Family::Ip, &fields, "endpoints", true));
    let endpoint = |number: u32, port: u16| {
        let key = Key::new(service).and(6u8).and(80u16).and(Value::host(number));
        Element::with_value(key, Key::new(server).and(port))
    };
    let (one, two) = (endpoint(0, 8001), endpoint(1, 8002));
    batch.add_elements(INET, "endpoints", [&one, &two]);
    nft.commit(&batch).unwrap();
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..60 {
        met.insert(net.fetch("10.96.0.1:80").unwrap());
    }
    assert_eq!(
        met.into_iter().collect::<Vec<_>>(),
        [format!("8001 {CLIENT}"), format!("8002 {CLIENT}")]
    );
    // Both numbers lead to the second endpoint now.
    let mut change = Batch::new();
    change.delete_elements(INET, "endpoints", [&one]);
    change.add_elements(INET, "endpoints", [&endpoint(0, 8002)]);
    nft.commit(&change).unwrap();
    for _ in 0..10 {
        assert_eq!(net.fetch("10.96.0.1:80").unwrap(), format!("8002 {CLIENT}"));
    }
}

#[test]
fn a_verdict_map_refuses_at_once() {
    let net = net();
    net.serve(80);
    let mut nft = open(&net.router);
    let mut batch = Batch::new();
    batch.add_table(INET);
    batch.add_chain(INET, &Chain::base("forward", ChainKind::Filter, Hook::Forward, 0));
    batch.add_chain(INET, &Chain::new("refuse"));
    batch.add_rule(INET, "refuse", &INET.rule().transport(Transport::Tcp).reject(Reject::TcpReset));
    batch.add_set(INET, &Set::verdict_map("ports", &[Type::InetProto, Type::InetService]));
    let key = [Field::L4Proto, Field::Dport];
    batch.add_rule(INET, "forward", &INET.rule().verdict_map(&key, "ports"));
    nft.commit(&batch).unwrap();
    let server = format!("{SERVER}:80");
    assert!(net.fetch(&server).is_ok());
    let element = Element::with_verdict(Key::new(6u8).and(80u16), Verdict::Goto("refuse".into()));
    let mut refuse = Batch::new();
    refuse.add_elements(INET, "ports", [&element]);
    nft.commit(&refuse).unwrap();
    let error = net.fetch(&server).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let mut allow = Batch::new();
    allow.delete_elements(INET, "ports", [&element]);
    nft.commit(&allow).unwrap();
    assert!(net.fetch(&server).is_ok());
}

#[test]
fn ports_lead_elsewhere_and_marks_are_kept() {
    let net = net();
    net.serve(80);
    let mut nft = open(&net.router);
    let mut batch = Batch::new();
    batch.add_table(INET);
    batch.add_chain(INET, &Chain::base("pre", ChainKind::Nat, Hook::Prerouting, priority::DSTNAT));
    batch
        .add_chain(INET, &Chain::base("post", ChainKind::Nat, Hook::Postrouting, priority::SRCNAT));
    let mark = INET.rule().daddr_is_local().dport_eq(Transport::Tcp, 8080).set_mark(0x2000, 0x2000);
    batch.add_rule(INET, "pre", &mark);
    let server: std::net::IpAddr = SERVER.parse().unwrap();
    let dnat = INET.rule().daddr_is_local().dport_eq(Transport::Tcp, 8080).dnat(server, Some(80));
    batch.add_rule(INET, "pre", &dnat);
    batch.add_rule(INET, "post", &INET.rule().mark_eq(0x2000, 0x2000).masquerade());
    nft.commit(&batch).unwrap();
    assert_eq!(net.fetch("10.1.0.1:8080").unwrap(), format!("80 {ROUTER}"));
    assert_eq!(net.fetch(&format!("{SERVER}:80")).unwrap(), format!("80 {CLIENT}"));
}
