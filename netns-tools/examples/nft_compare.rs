//! What does it cost to commit packet filter rules: over netlink, or with the program `nft`?
//!
//! Runs, alternately and each time in an empty throw-away namespace, a commit of the given number of rules by
//! [`netns_tools::nftables`] (building the batch included) and by `nft -f -` (starting the program included), and a commit of one
//! rule more each way: what a plugin does. Then the service proxy's case: a map of twice as many endpoints, and a change of two
//! elements of it. Prints medians.
//!
//! ```text
//! cargo run --release -p netns-tools --example nft_compare -- 1000
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use netns_tools::nftables::{
    Batch, Chain, Element, Family, Key, Nftables, Set, Table, Type, Value,
};
use netns_tools::testing::TestNetns;

type Outcome<T> = Result<T, Box<dyn Error>>;

const TABLE: Table<'static> = Table::new(Family::Inet, "compare");
const ROUNDS: usize = 15;
const SERVICE: [Type; 4] = [Type::Ipv4Addr, Type::InetProto, Type::InetService, Type::Mark];

fn main() -> Outcome<()> {
    let rules: u32 = std::env::args().nth(1).map_or(Ok(1000), |number| number.parse())?;
    let mut times: [Vec<Duration>; 6] = Default::default();
    for _ in 0..ROUNDS {
        let [all, one] = over_netlink(rules)?;
        times[0].push(all);
        times[1].push(one);
        let [all, one] = with_nft(rules)?;
        times[2].push(all);
        times[3].push(one);
        let [all, few] = endpoints(rules)?;
        times[4].push(all);
        times[5].push(few);
    }
    let what = [
        format!("{rules} rules over netlink"),
        "  one rule more".to_owned(),
        format!("{rules} rules with nft -f"),
        "  one rule more".to_owned(),
        format!("a map of {} endpoints over netlink", rules * 2),
        "  two of them change".to_owned(),
    ];
    for (what, times) in what.iter().zip(&mut times) {
        times.sort_unstable();
        println!("{what:<40} {:>10.3?}", times[times.len() / 2]);
    }
    Ok(())
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number)
}

fn over_netlink(rules: u32) -> Outcome<[Duration; 2]> {
    let ns = TestNetns::new("cmp");
    let start = Instant::now();
    let mut nft = Nftables::open_in(ns.ns())?;
    let mut batch = Batch::new();
    batch.add_table(TABLE).add_chain(TABLE, &Chain::new("c"));
    for number in 0..rules {
        add_rule(&mut batch, number);
    }
    nft.commit(&batch)?;
    let all = start.elapsed();
    assert_eq!(nft.rules(TABLE, Some("c"))?.len(), rules as usize);
    let start = Instant::now();
    // As a plugin does: a process of its own opens a socket of its own.
    let mut nft = Nftables::open_in(ns.ns())?;
    let mut batch = Batch::new();
    add_rule(&mut batch, rules);
    nft.commit(&batch)?;
    Ok([all, start.elapsed()])
}

fn add_rule(batch: &mut Batch, number: u32) {
    let rule = TABLE.rule().saddr_eq(IpAddr::V4(address(number))).counter().accept();
    batch.add_rule(TABLE, "c", &rule.comment("a comment of usual length"));
}

fn with_nft(rules: u32) -> Outcome<[Duration; 2]> {
    let ns = TestNetns::new("cmp");
    let start = Instant::now();
    let mut text = "add table inet compare\nadd chain inet compare c\n".to_owned();
    for number in 0..rules {
        nft_rule(&mut text, number)?;
    }
    run_nft(&ns, &text)?;
    let all = start.elapsed();
    let start = Instant::now();
    let mut text = String::new();
    nft_rule(&mut text, rules)?;
    run_nft(&ns, &text)?;
    Ok([all, start.elapsed()])
}

fn nft_rule(text: &mut String, number: u32) -> std::fmt::Result {
    let address = address(number);
    writeln!(
        text,
        "add rule inet compare c ip saddr {address} counter accept comment \"a comment of usual length\""
    )
}

fn run_nft(ns: &TestNetns, text: &str) -> Outcome<()> {
    let mut child = ns.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(text.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("nft ended with {status}").into()) }
}

fn endpoints(services: u32) -> Outcome<[Duration; 2]> {
    let ns = TestNetns::new("cmp");
    let mut nft = Nftables::open_in(ns.ns())?;
    let start = Instant::now();
    let mut batch = Batch::new();
    let data = [Type::Ipv4Addr, Type::InetService];
    batch.add_table(TABLE).add_set(TABLE, &Set::map("endpoints", &SERVICE, &data));
    let elements: Vec<_> = (0..services * 2).map(|number| endpoint(number, 8080)).collect();
    batch.add_elements(TABLE, "endpoints", &elements);
    nft.commit(&batch)?;
    let all = start.elapsed();
    let start = Instant::now();
    let mut batch = Batch::new();
    batch.delete_elements(TABLE, "endpoints", &elements[..2]);
    batch.add_elements(TABLE, "endpoints", &[endpoint(0, 8081), endpoint(1, 8081)]);
    nft.commit(&batch)?;
    Ok([all, start.elapsed()])
}

fn endpoint(number: u32, port: u16) -> Element {
    let key = Key::new(Ipv4Addr::from(0x0a60_0000 + number / 2)).and(6u8).and(443u16);
    Element::with_value(key.and(Value::host(number % 2)), Key::new(address(number)).and(port))
}
