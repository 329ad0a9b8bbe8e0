//! Measures the iptables backend of the service proxy in the namespace that it is started in, and prints one line of JSON.
//!
//! `proxy_iptables VARIANT SERVICES ENDPOINTS [plan]`: variant `nft` or `legacy`. Times are in milliseconds. `floor_full` and
//! `floor_one` are what `iptables-restore` alone takes for the same input. With `plan` it prints the input of the first sync
//! instead.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use heddle_agent::proxy::backend::{Backend, Scope};
use heddle_agent::proxy::iptables::IptablesBackend;
use heddle_agent::proxy::model::{
    Model, Node, Port, Protocol, Service, ServiceName, Slice, SliceEndpoint, SlicePort,
};
use heddle_agent::proxy::options::RuleOptions;
use netns_tools::iptables::{Backend as Variant, BulkRules, Family, Iptables};

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match measure(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}: {:?}", error.source());
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &[String]) -> Result<(), Error> {
    let [variant, services, endpoints, rest @ ..] = args else {
        return Err("usage: proxy_iptables nft|legacy SERVICES ENDPOINTS [plan]".into());
    };
    let (services, endpoints): (u32, u32) = (services.parse()?, endpoints.parse()?);
    let variant = if variant == "legacy" { Variant::Legacy } else { Variant::Nft };
    let program = Iptables::variant(Family::V4, variant).ok_or("that variant is not installed")?;
    let mut bench = Bench {
        model: Model::new(Node::named("n1")),
        backend: IptablesBackend::of(program.clone()),
        options: RuleOptions::default(),
    };
    for number in 0..services {
        bench.add(number, endpoints);
    }
    bench.model.take_changes();
    let plan = bench.backend.plan(bench.model.ports(Family::V4), &bench.options)?;
    if rest.first().is_some_and(|word| word == "plan") {
        print!("{plan}");
        return Ok(());
    }
    drop(plan);
    report(&mut bench, program, services, endpoints)
}

struct Bench {
    model: Model,
    backend: IptablesBackend,
    options: RuleOptions,
}

impl Bench {
    fn add(&mut self, number: u32, endpoints: u32) {
        self.model.set_service(service(number));
        self.model.set_slice(slice(number, endpoints, 0));
    }

    fn full(&mut self) -> Result<f64, Error> {
        self.model.take_changes();
        let start = Instant::now();
        self.backend.sync(self.model.ports(Family::V4), &self.options, Scope::Full)?;
        Ok(ms(start.elapsed()))
    }

    fn change(&mut self) -> Result<f64, Error> {
        let start = Instant::now();
        let changes = self.model.take_changes();
        let ports = self.model.ports(Family::V4);
        let report = self.backend.sync(ports, &self.options, Scope::Changed(&changes.v4))?;
        assert!(!report.full && report.changes > 0, "{report:?}");
        Ok(ms(start.elapsed()))
    }
}

fn report(
    bench: &mut Bench,
    mut program: Iptables,
    services: u32,
    endpoints: u32,
) -> Result<(), Error> {
    let first = bench.full()?;
    let again = bench.full()?;
    bench.model.set_slice(slice(services / 2, endpoints, 1));
    let endpoint = bench.change()?;
    bench.add(services, endpoints);
    let add = bench.change()?;
    bench.model.remove_service(&name(services / 2));
    let remove = bench.change()?;
    let start = Instant::now();
    let intact = bench.backend.is_intact()?;
    let look = ms(start.elapsed());
    let floor_one = floor(&mut program, ONE)?;
    let start = Instant::now();
    bench.backend.cleanup()?;
    let cleanup = ms(start.elapsed());
    let plan = bench.backend.plan(bench.model.ports(Family::V4), &bench.options)?;
    let floor_full = floor(&mut program, &plan)?;
    bench.backend.cleanup()?;
    println!(
        "{{\"services\":{services},\"endpoints\":{endpoints},\"first\":{first:.1},\"floor_full\":{floor_full:.1},\"endpoint\":{endpoint:.1},\
         \"add\":{add:.1},\"remove\":{remove:.1},\"floor_one\":{floor_one:.1},\"full_again\":{again:.1},\"look\":{look:.3},\
         \"intact\":{intact},\"cleanup\":{cleanup:.1},\"peak_kib\":{}}}",
        peak_memory()
    );
    Ok(())
}

/// The rules of one service's endpoints, as short as they can be.
const ONE: &str = "*nat\n:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]\n:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n\
    -A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.0.0.1:80\n\
    -A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA\nCOMMIT\n";

fn floor(program: &mut Iptables, input: &str) -> Result<f64, Error> {
    let start = Instant::now();
    program.restore(&input)?;
    Ok(ms(start.elapsed()))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

fn name(number: u32) -> ServiceName {
    ServiceName::new("bench", &format!("service-{number}"))
}

fn service(number: u32) -> Service {
    let port = Port { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    let ip = std::net::Ipv4Addr::from_bits((10 << 24) + (96 << 16) + number + 1);
    Service {
        name: name(number),
        created: None,
        cluster_ips: vec![ip.into()],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        external_local: false,
        internal_local: false,
        affinity: None,
        health_check_node_port: None,
        ports: vec![port],
    }
}

/// Endpoints of a service; those of another `generation` have other addresses.
fn slice(number: u32, endpoints: u32, generation: u32) -> Slice {
    let endpoint = |index: u32| {
        let host = number * endpoints + index + 1;
        let address =
            std::net::Ipv4Addr::from_bits((10 << 24) + ((128 + (generation << 6)) << 16) + host);
        SliceEndpoint {
            address: address.into(),
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            for_zones: Box::default(),
            for_nodes: Box::default(),
        }
    };
    let port = SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 };
    Slice {
        name: format!("bench/service-{number}-a").into(),
        service: name(number),
        family: Family::V4,
        ports: Box::new([port]),
        endpoints: (0..endpoints).map(endpoint).collect(),
        triggered: None,
    }
}
