//! How quick the server is, as clients see it: the real program with files in a directory of its own, on a loopback port.
//!
//! `api_bench SERVER [OPTION...]` prints a Markdown table. It speaks HTTP/1.1 without TLS (`--insecure-loopback`), so that the server is
//! measured and not the client's ciphers; the part `tls` speaks as clients do, with certificates, over HTTP/1.1 and HTTP/2. The floor of
//! creates is the least that any server could do on the same disk: bytes appended to a file by one writer, with `fdatasync` after each.
//! The part `etcd` has puts of etcd itself beside creates of a server on it. There is no kube-apiserver to be had here; etcd's own puts
//! are what it could reach at best.

mod client;
mod creates;
mod many;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::json;

use client::Protocol;
use server::{Server, Setup};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

#[derive(Parser)]
struct Arguments {
    /// The program `heddle-server`.
    server: PathBuf,
    /// Where files are made, in a directory of their own that is removed afterwards.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// How long creates are counted, and how long the server is watched while it is idle.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How many pods are listed.
    #[arg(long, default_value_t = 5000)]
    pods: usize,
    /// How many watch.
    #[arg(long, default_value_t = 200)]
    watchers: usize,
    /// How many objects a large store has.
    #[arg(long, default_value_t = 100_000)]
    objects: usize,
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Part::value_variants().to_vec())]
    parts: Vec<Part>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Start, idleness, creates, watches and tables of one server on a file.
    Server,
    /// Creates over TLS.
    Tls,
    /// Creates beside etcd.
    Etcd,
    /// A large store.
    Many,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let place = tempfile::tempdir_in(&arguments.dir)?;
    let limit = Duration::from_secs(arguments.seconds);
    let setup = Setup {
        program: arguments.server.clone(),
        place: place.path().to_owned(),
        etcd: None,
        tls: false,
    };
    println!("| what | measured | target |\n|---|---|---|");
    for part in &arguments.parts {
        match part {
            Part::Server => one_server(&arguments, &setup).await?,
            Part::Tls => creates::with_tls(&setup, limit).await?,
            Part::Etcd => creates::beside_etcd(&setup, limit).await?,
            Part::Many => many::objects(&setup, arguments.objects).await?,
        }
    }
    Ok(())
}

async fn one_server(arguments: &Arguments, setup: &Setup) -> Result<(), Failure> {
    let server = start(setup).await?;
    idle(&server, arguments.seconds).await?;
    let limit = Duration::from_secs(arguments.seconds);
    creates::on_a_file(&server, &setup.place, limit).await?;
    watches(&server, arguments.watchers).await?;
    tables(&server, arguments.pods).await
}

fn row(what: &str, measured: &str, target: &str) {
    println!("| {what} | {measured} | {target} |");
}

/// The first start makes certificates and roles; the median of five more is what counts.
async fn start(setup: &Setup) -> Result<Server, Failure> {
    let begun = Instant::now();
    let mut server = Server::run(setup).await?;
    row("first start to readyz", &ms(begun.elapsed()), "");
    let mut times = Vec::new();
    for _ in 0..5 {
        drop(server);
        let begun = Instant::now();
        server = Server::run(setup).await?;
        times.push(begun.elapsed());
    }
    row("start to readyz", &ms(share(&mut times, 50)), "< 500 ms");
    Ok(server)
}

async fn idle(server: &Server, seconds: u64) -> Result<(), Failure> {
    let before = server.cpu()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = server.cpu()?.saturating_sub(before).as_secs_f64()
        / Duration::from_secs(seconds).as_secs_f64();
    row("idle, resident", &format!("{:.1} MB", server.resident_mb()?), "< 40 MB");
    row("idle, CPU", &format!("{:.2} %", used * 100.0), "< 0.5 %");
    Ok(())
}

/// From the moment at which a write begins until each watcher has its line.
async fn watches(server: &Server, watchers: usize) -> Result<(), Failure> {
    const ROUNDS: usize = 50;
    let begun = Instant::now();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let ready = Arc::new(tokio::sync::Barrier::new(watchers + 1));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..watchers {
        let (told, ready, door) = (told.clone(), ready.clone(), server.door.clone());
        tasks.spawn(async move {
            let client = door.connect(Protocol::Http1).await?;
            let path = format!("{MAPS}?watch=true&labelSelector=bench%3Dwatch&resourceVersion=");
            let mut lines = client.watch(&path).await?;
            ready.wait().await;
            for _ in 0..ROUNDS {
                lines.next().await?;
                told.send(begun.elapsed())?;
            }
            Ok::<_, Failure>(())
        });
    }
    ready.wait().await;
    let mut client = server.door.connect(Protocol::Http1).await?;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let object =
            json!({"metadata": {"name": format!("watched-{round}"), "labels": {"bench": "watch"}}});
        let wrote = begun.elapsed();
        client.made(MAPS, &object).await?;
        for _ in 0..watchers {
            times.push(heard.recv().await.ok_or("no watcher is left")?.saturating_sub(wrote));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let figures = format!("p50 {}, p99 {}", ms(share(&mut times, 50)), ms(share(&mut times, 99)));
    row(&format!("write to line, {watchers} watchers"), &figures, "p99 < 20 ms");
    Ok(())
}

async fn tables(server: &Server, pods: usize) -> Result<(), Failure> {
    let mut client = server.door.connect(Protocol::Http1).await?;
    for index in 0..pods {
        let pod = json!({
            "metadata": {"name": format!("pod-{index}"), "labels": {"app": "bench"}},
            "spec": {"containers": [{"name": "c", "image": "registry.example/app:1"}]},
        });
        client.made(PODS, &pod).await?;
    }
    let mut times = Vec::new();
    for _ in 0..11 {
        let begun = Instant::now();
        let answer = client.get(PODS, TABLE).await?;
        times.push(begun.elapsed());
        if !answer.starts_with(b"{") {
            return Err("the list is no table".into());
        }
    }
    row(&format!("{pods} pods as a Table"), &ms(share(&mut times, 50)), "< 300 ms");
    row("resident afterwards", &format!("{:.1} MB", server.resident_mb()?), "");
    // longer than the server waits until it gives memory back
    tokio::time::sleep(Duration::from_secs(12)).await;
    row("resident a moment later", &format!("{:.1} MB", server.resident_mb()?), "");
    Ok(())
}

fn share(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(index).copied().unwrap_or_default()
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
