//! How long the nftables backend of the service proxy takes, and how much memory: `proxy_nftables SERVICES ENDPOINTS`.
//!
//! Makes a network namespace of its own, which goes with it; needs root. Prints a line of JSON.

use std::process::ExitCode;
use std::time::Instant;

use heddle_agent::proxy::backend::{Backend, Scope};
use heddle_agent::proxy::model::{FAMILIES, Model, Node, Service, Slice};
use heddle_agent::proxy::nftables::NftablesBackend;
use heddle_agent::proxy::options::RuleOptions;
use netns_tools::netns::NetNs;
use serde_json::{Value, json};

type Anything = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [services, endpoints] = numbers[..] else {
        eprintln!("usage: proxy_nftables SERVICES ENDPOINTS");
        return ExitCode::from(2);
    };
    match NetNs::scratch(|| measure(services, endpoints)) {
        Ok(Ok(result)) => println!("{result}"),
        Ok(Err(error)) => return fail(&*error),
        Err(error) => return fail(&error),
    }
    ExitCode::SUCCESS
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn address(base: u32, number: u32) -> String {
    std::net::Ipv4Addr::from(base + number).to_string()
}

fn service(number: u32) -> Result<Service, Anything> {
    let object = json!({"metadata": {"namespace": "default", "name": format!("s{number}")},
        "spec": {"clusterIP": address(0x0a60_0001, number), "ports": [{"port": 80}]}});
    let service = Service::of(&serde_json::from_value(object)?).map_err(|e| e.to_string())?;
    service.ok_or_else(|| "no service".into())
}

/// `shift` lets the first endpoint be another one.
fn slice(number: u32, endpoints: u32, shift: u32) -> Result<Slice, Anything> {
    let address = |index| match index {
        0 => address(0x0a80_0000, number * endpoints + (shift << 20)),
        _ => address(0x0a80_0000, number * endpoints + index),
    };
    let all: Vec<Value> = (0..endpoints)
        .map(|index| json!({"addresses": [address(index)], "nodeName": "other"}))
        .collect();
    let object = json!({"metadata": {"namespace": "default", "name": format!("s{number}-1"),
        "labels": {"kubernetes.io/service-name": format!("s{number}")}},
        "addressType": "IPv4", "endpoints": all, "ports": [{"port": 8080}]});
    Slice::of(&serde_json::from_value(object)?).ok_or_else(|| "no slice".into())
}

/// Milliseconds of wall time and of this thread's time on a processor.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64, f64) {
    let (begin, cpu) = (Instant::now(), on_cpu());
    let result = work();
    (result, begin.elapsed().as_secs_f64() * 1e3, (on_cpu() - cpu) / 1e6)
}

/// Nanoseconds, of which the kernel's part for us is one.
fn on_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Kilobytes of a field of `/proc/self/status`.
fn memory(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

fn measure(services: u32, endpoints: u32) -> Result<Value, Anything> {
    let mut model = Model::new(Node::named("this"));
    for number in 0..services {
        model.set_service(service(number)?);
        model.set_slice(slice(number, endpoints, 0)?);
    }
    model.take_changes();
    let model_memory = memory("VmRSS");
    let family = FAMILIES[0];
    let options = RuleOptions::default();
    let mut backend = NftablesBackend::open(family)?;
    let (first, wall, cpu) = timed(|| backend.sync(model.ports(family), &options, Scope::Full));
    let mut result = json!({"services": services, "endpoints": endpoints, "model_kb": model_memory,
        "first_ms": wall, "first_cpu_ms": cpu, "changes": first?.changes});
    for (name, shift, count) in [
        ("replace", 3, endpoints),
        ("add", 3, endpoints + 1),
        ("remove", 3, endpoints),
        ("again", 5, endpoints),
    ] {
        model.set_slice(slice(services / 2, count, shift)?);
        let changes = model.take_changes();
        let scope = Scope::Changed(changes.of(family));
        let (done, wall, cpu) = timed(|| backend.sync(model.ports(family), &options, scope));
        result[name] = json!({"ms": wall, "cpu_ms": cpu, "changes": done?.changes});
    }
    result["rss_kb"] = memory("VmRSS").into();
    let (intact, wall, _) = timed(|| backend.is_intact());
    result["look"] = json!({"intact": intact?, "ms": wall});
    let (full, wall, cpu) = timed(|| backend.sync(model.ports(family), &options, Scope::Full));
    result["full"] = json!({"ms": wall, "cpu_ms": cpu, "changes": full?.changes});
    result["rss_after_full_kb"] = memory("VmRSS").into();
    result["peak_kb"] = memory("VmHWM").into();
    Ok(result)
}
