//! How quick the server is, as clients see it: the real program on a file in a directory of its own, over HTTP/1.1 on a loopback port.
//!
//! `api_bench SERVER [--dir D] [--seconds S] [--pods N] [--watchers W]` prints a Markdown table. The floor of creates is the least that
//! any server could do on the same disk: bytes appended to a file by one writer, with `fdatasync` after each.

mod client;
mod server;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

use client::Client;
use server::Server;

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
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let place = tempfile::tempdir_in(&arguments.dir)?;
    println!("| what | measured | target |\n|---|---|---|");
    let server = start(&arguments, place.path()).await?;
    idle(&server, arguments.seconds).await?;
    creates(&server, place.path(), arguments.seconds).await?;
    watches(&server, arguments.watchers).await?;
    tables(&server, arguments.pods).await
}

fn row(what: &str, measured: &str, target: &str) {
    println!("| {what} | {measured} | {target} |");
}

/// The first start makes certificates and roles; the median of five more is what counts.
async fn start(arguments: &Arguments, place: &Path) -> Result<Server, Failure> {
    let begun = Instant::now();
    let mut server = Server::run(&arguments.server, place).await?;
    row("first start to readyz", &ms(begun.elapsed()), "");
    let mut times = Vec::new();
    for _ in 0..5 {
        drop(server);
        let begun = Instant::now();
        server = Server::run(&arguments.server, place).await?;
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

async fn creates(server: &Server, place: &Path, seconds: u64) -> Result<(), Failure> {
    let limit = Duration::from_secs(seconds);
    let (count, took) = floor(&place.join("floor"), limit)?;
    row("append + fdatasync, 1 writer", &rate(count, took), "the floor");
    for clients in [1, 8, 64] {
        let begun = Instant::now();
        let tasks: Vec<_> = (0..clients)
            .map(|one| tokio::spawn(create(server.port, format!("c{clients}-{one}"), begun, limit)))
            .collect();
        let mut count = 0;
        for task in tasks {
            count += task.await??;
        }
        let target = if clients == 64 { "≥ 2000/s" } else { "" };
        row(&format!("durable creates, clients: {clients}"), &rate(count, begun.elapsed()), target);
    }
    Ok(())
}

async fn create(
    port: u16,
    prefix: String,
    begun: Instant,
    limit: Duration,
) -> Result<usize, Failure> {
    let mut client = Client::connect(port).await?;
    let mut count = 0;
    while begun.elapsed() < limit {
        let object = json!({"metadata": {"name": format!("{prefix}-{count}")}, "data": {"k": "x".repeat(512)}});
        client.made(MAPS, &object).await?;
        count += 1;
    }
    Ok(count)
}

fn floor(path: &Path, limit: Duration) -> Result<(usize, Duration), Failure> {
    let mut file = std::fs::File::create(path)?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < limit {
        file.write_all(&[b'x'; 1024])?;
        file.sync_data()?;
        count += 1;
    }
    Ok((count, begun.elapsed()))
}

/// From the moment at which a write begins until each watcher has its line.
async fn watches(server: &Server, watchers: usize) -> Result<(), Failure> {
    const ROUNDS: usize = 50;
    let begun = Instant::now();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let ready = Arc::new(tokio::sync::Barrier::new(watchers + 1));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..watchers {
        let (told, ready, port) = (told.clone(), ready.clone(), server.port);
        tasks.spawn(async move {
            let client = Client::connect(port).await?;
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
    let mut client = Client::connect(server.port).await?;
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
    let mut client = Client::connect(server.port).await?;
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

fn rate(count: usize, took: Duration) -> String {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    format!("{:.0}/s", f64::from(count) / took.as_secs_f64())
}
