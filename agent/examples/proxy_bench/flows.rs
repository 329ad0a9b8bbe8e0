//! What it costs to find stale flows among many.

use std::fmt;
use std::fmt::Write as _;
use std::time::Instant;

use heddle_agent::proxy::conntrack::{KernelFlows, Report, forget_stale, reconcile};
use heddle_agent::proxy::model::{Changes, Event, Model, Node, Protocol, Slice};
use netns_tools::conntrack::{Filter, UDP};
use netns_tools::iptables::Family;
use netns_tools::testing::TestNetns;
use netns_tools::{Conntrack, NetNs};

use crate::{Outcome, median, world};

/// Rounds of each; the median is told.
const ROUNDS: usize = 9;
/// Services of UDP with two endpoints each.
const SERVICES: u32 = 1_000;

/// Milliseconds.
pub struct FlowFigures {
    tracked: usize,
    /// What was done; how long it took, and how many flows were listed or forgotten.
    lines: Vec<(&'static str, (f64, usize))>,
}

impl fmt::Display for FlowFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stale flows among {} of UDP, {SERVICES} services", self.tracked)?;
        let mut lines = self.lines.iter();
        lines.try_for_each(|(what, (ms, told))| {
            writeln!(f, "    {what:<48}{ms:>10.2} ms{told:>9} flows")
        })
    }
}

/// Measures in a namespace of its own with so many flows.
pub fn measure(count: usize) -> Outcome<FlowFigures> {
    let ns = TestNetns::new("flows");
    fill(&ns, count)?;
    let mut conntrack = Conntrack::open_in(ns.ns())?;
    let udp = Filter::new(Family::V4).protocol(UDP);
    let tracked = conntrack.list_where(&udp, |_| true)?.len();
    let mut flows = KernelFlows::of(NetNs::open(format!("/run/netns/{}", ns.name()))?);
    let (mut model, options) = (model(), world::options());
    let mut judge = |changes: Option<&Changes>, model: &Model| -> Outcome<Report> {
        let ports = model.ports(Family::V4);
        Ok(match changes {
            Some(changes) => forget_stale(Family::V4, &changes.v4, ports, &options, &mut flows)?,
            None => reconcile(Family::V4, ports, &options, &mut flows)?,
        })
    };
    let one = udp.to(world::cluster_ip(1).into()).port(world::PORT);
    let tcp = changes(&mut model, Event::Slice(slice(0, Protocol::Tcp, 1)));
    let gone = changes(&mut model, Event::Slice(slice(1, Protocol::Udp, 1)));
    let mut lines = vec![
        (
            "the kernel is asked for those of one frontend",
            often(|| Ok(conntrack.list(&one)?.len()))?,
        ),
        (
            "the kernel is asked for all",
            often(|| Ok(conntrack.list_where(&udp, |_| false)?.len()))?,
        ),
        ("an endpoint of TCP is replaced", often(|| Ok(judge(Some(&tcp), &model)?.deleted))?),
    ];
    lines.push((
        "an endpoint of one service of UDP goes",
        once(|| Ok(judge(Some(&gone), &model)?.deleted))?,
    ));
    lines.push(("all are compared with all services", often(|| Ok(judge(None, &model)?.deleted))?));
    model.apply(Event::AllServices(Vec::new()));
    let all = model.take_changes();
    lines.push(("all services of UDP go", once(|| Ok(judge(Some(&all), &model)?.deleted))?));
    Ok(FlowFigures { tracked, lines })
}

/// How long it took, and of how many flows it told.
fn once(work: impl FnOnce() -> Outcome<usize>) -> Outcome<(f64, usize)> {
    let start = Instant::now();
    let told = work()?;
    Ok((start.elapsed().as_secs_f64() * 1e3, told))
}

/// The median.
fn often(mut work: impl FnMut() -> Outcome<usize>) -> Outcome<(f64, usize)> {
    let all = (0..ROUNDS).map(|_| once(&mut work)).collect::<Outcome<Vec<_>>>()?;
    let told = all.first().map_or(0, |(_, told)| *told);
    Ok((median(all.into_iter().map(|(time, _)| time).collect()), told))
}

fn changes(model: &mut Model, event: Event) -> Changes {
    model.apply(event);
    model.take_changes()
}

/// Services of UDP with two endpoints each, and the first one of TCP.
fn model() -> Model {
    let mut model = Model::new(Node::named("bench-node"));
    let protocol = |index| if index == 0 { Protocol::Tcp } else { Protocol::Udp };
    let service = |index| world::service(index, protocol(index));
    model.apply(Event::AllServices((0..SERVICES).map(service).collect()));
    let slice = |index| slice(index, protocol(index), 2);
    model.apply(Event::AllSlices((0..SERVICES).map(slice).collect()));
    model.take_changes();
    model
}

fn slice(index: u32, protocol: Protocol, endpoints: u32) -> Slice {
    let all = (0..endpoints).map(|number| world::endpoint(2 * index + number).into());
    world::slice(index, protocol, all)
}

/// Flows of clients to all endpoints of all services, each from a port of its own.
fn fill(ns: &TestNetns, count: usize) -> Outcome {
    let mut text = String::new();
    for (number, flow) in (0..u32::try_from(count)?).zip((1..SERVICES).cycle()) {
        let (from, port) = (world::client(number), 1024 + number % 60_000);
        let (to, endpoint) =
            (world::cluster_ip(flow), world::endpoint(2 * flow + number / SERVICES % 2));
        let (service, target) = (world::PORT, world::TARGET);
        writeln!(
            text,
            "-I -p udp -t 600 -s {from} -d {to} --sport {port} --dport {service} -r {endpoint} -q {from} \
             --reply-port-src {target} --reply-port-dst {port}"
        )?;
    }
    let file = std::env::temp_dir().join(format!("heddle-flows-{}", std::process::id()));
    std::fs::write(&file, text)?;
    let done = ns.output(&["conntrack", "-R", &file.to_string_lossy()]);
    std::fs::remove_file(&file)?;
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    if done.status.success() { Ok(()) } else { Err(format!("conntrack -R: {told}").into()) }
}
