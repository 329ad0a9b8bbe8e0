//! A store with many objects: how long it takes to open, what lists of all of them take, and what is held of memory.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Protocol;
use super::server::{Server, Setup};
use super::{Failure, MAPS, ms, row};

/// What an object has of payload: about a kilobyte with its metadata.
const PAYLOAD: usize = 700;
const WRITERS: usize = 64;
/// As kubectl and client-go ask for pages.
const PAGE: usize = 500;
/// Longer than the server waits until it gives memory back.
const SETTLED: Duration = Duration::from_secs(12);

pub async fn objects(setup: &Setup, count: usize) -> Result<(), Failure> {
    let place = setup.place.join("many");
    std::fs::create_dir(&place)?;
    let setup = Setup { place, ..setup.clone() };
    let mut server = Server::run(&setup).await?;
    fill(&server, count).await?;
    tokio::time::sleep(SETTLED).await;
    row(&format!("{count} creates, resident afterwards"), &mb(server.resident_mb()?), "");
    drop(server);
    let begun = Instant::now();
    server = Server::run(&setup).await?;
    let (first, again) = ("killed, start to readyz", "start to readyz");
    row(&format!("{count} objects, {first}"), &ms(begun.elapsed()), "< 2 s");
    row(&format!("{count} objects, {again}, resident"), &mb(server.resident_mb()?), "< 400 MB");
    pages(&server, count).await?;
    for coding in ["identity", "gzip"] {
        whole(&server, count, coding).await?;
    }
    tokio::time::sleep(SETTLED).await;
    row("resident a moment later", &mb(server.resident_mb()?), "< 400 MB");
    Ok(())
}

async fn fill(server: &Server, count: usize) -> Result<(), Failure> {
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let door = server.door.clone();
            tokio::spawn(async move {
                let mut client = door.connect(Protocol::Http1).await?;
                for index in (writer..count).step_by(WRITERS) {
                    let metadata = json!({"name": format!("object-{index:06}")});
                    let object = json!({"metadata": metadata, "data": {"k": "x".repeat(PAYLOAD)}});
                    client.made(MAPS, &object).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn pages(server: &Server, count: usize) -> Result<(), Failure> {
    let mut client = server.door.connect(Protocol::Http1).await?;
    let (mut token, mut found, mut longest) = (String::new(), 0, Duration::ZERO);
    server.peak_mb()?;
    let begun = Instant::now();
    let mut asked = Duration::ZERO;
    loop {
        let path = format!("{MAPS}?limit={PAGE}&continue={token}");
        let one = Instant::now();
        let bytes = client.get(&path, "application/json").await?;
        (asked, longest) = (asked + one.elapsed(), longest.max(one.elapsed()));
        let page: Value = serde_json::from_slice(&bytes)?;
        found += page["items"].as_array().map_or(0, Vec::len);
        match page["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut token),
            _ => break,
        }
    }
    if found < count {
        return Err(format!("{found} objects of {count}, in {:?}", begun.elapsed()).into());
    }
    let figures = format!("{}, the longest page {}", ms(asked), ms(longest));
    row(&format!("all in pages of {PAGE}"), &figures, "");
    row("... the most resident", &mb(server.peak_mb()?), "< 400 MB");
    Ok(())
}

async fn whole(server: &Server, count: usize, coding: &str) -> Result<(), Failure> {
    let mut client = server.door.connect(Protocol::Http1).await?;
    server.peak_mb()?;
    let begun = Instant::now();
    let bytes = client.measured(MAPS, coding).await?;
    let took = begun.elapsed();
    let size = mb(f64::from(u32::try_from(bytes)?) / 1_048_576.0);
    row(&format!("all {count} at once, {coding}"), &format!("{} in {}", size, ms(took)), "");
    row("... the most resident", &mb(server.peak_mb()?), "");
    Ok(())
}

fn mb(count: f64) -> String {
    format!("{count:.1} MB")
}
