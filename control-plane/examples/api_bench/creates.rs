//! Durable creates: beside the disk's own floor, with and without TLS, and beside etcd.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, Door, Protocol};
use super::server::{Etcd, Server, Setup};
use super::{Failure, MAPS, row};

const CLIENTS: [usize; 3] = [1, 8, 64];
/// What an object has of payload.
const PAYLOAD: usize = 512;
/// About what such an object is in the store.
const STORED: usize = 1024;

/// Something done by several at a time; how often, and for how long.
struct Count(usize, Duration);

impl Count {
    fn per_second(&self) -> f64 {
        f64::from(u32::try_from(self.0).unwrap_or(u32::MAX)) / self.1.as_secs_f64()
    }

    fn row(&self, what: &str, target: &str) {
        row(what, &format!("{:.0}/s", self.per_second()), target);
    }
}

/// On a file, without TLS.
pub async fn on_a_file(server: &Server, place: &Path, limit: Duration) -> Result<(), Failure> {
    floor(&place.join("floor"), limit)?.row("append + fdatasync, 1 writer", "the floor");
    for clients in CLIENTS {
        let count = create(&server.door, Protocol::Http1, clients, limit).await?;
        let target = if clients == 64 { "≥ 2000/s" } else { "" };
        count.row(&format!("durable creates, clients: {clients}"), target);
    }
    Ok(())
}

/// On a file, as clients speak to a server that is meant for use.
pub async fn with_tls(setup: &Setup, limit: Duration) -> Result<(), Failure> {
    let place = setup.place.join("tls");
    std::fs::create_dir(&place)?;
    let server = Server::run(&Setup { place, tls: true, ..setup.clone() }).await?;
    for (protocol, name) in [
        (Protocol::Http1, "TLS, HTTP/1.1, a connection each"),
        (Protocol::Http2, "TLS, HTTP/2, one connection"),
    ] {
        for clients in [1, 64] {
            let count = create(&server.door, protocol, clients, limit).await?;
            count.row(&format!("durable creates, {name}, clients: {clients}"), "");
        }
    }
    Ok(())
}

/// What etcd does by itself, what a server on it does, and a server on a file once more: in turn, so that the disk is the same.
pub async fn beside_etcd(setup: &Setup, limit: Duration) -> Result<(), Failure> {
    let place = setup.place.join("beside");
    std::fs::create_dir(&place)?;
    let etcd = Etcd::run(&place).await?;
    let on_etcd = place.join("on-etcd");
    let on_file = place.join("on-file");
    let etcds = Some(etcd.address.clone());
    let on_etcd = Server::run(&Setup { place: on_etcd, etcd: etcds, ..setup.clone() }).await?;
    let on_file = Server::run(&Setup { place: on_file, ..setup.clone() }).await?;
    for clients in CLIENTS {
        let puts = put(&etcd.address, clients, limit).await?;
        puts.row(&format!("etcd's own puts, clients: {clients}"), "the reference");
        for (server, store) in [(&on_etcd, "etcd"), (&on_file, "a file")] {
            let count = create(&server.door, Protocol::Http1, clients, limit).await?;
            let ratio = count.per_second() / puts.per_second();
            let measured = format!("{:.0}/s, {ratio:.2} of etcd's", count.per_second());
            row(&format!("creates on {store}, clients: {clients}"), &measured, "");
        }
    }
    Ok(())
}

/// Many at a time make configmaps, each one after the other.
async fn create(
    door: &Door,
    protocol: Protocol,
    clients: usize,
    limit: Duration,
) -> Result<Count, Failure> {
    let first = door.connect(protocol).await?;
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(match first.shared() {
            Some(shared) => shared,
            None => door.connect(protocol).await?,
        });
    }
    let begun = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(one, client)| {
            let prefix = format!("{protocol:?}-{clients}-{one}").to_lowercase();
            tokio::spawn(create_some(client, prefix, begun, limit))
        })
        .collect();
    sum(tasks, begun).await
}

async fn create_some(
    mut client: Client,
    prefix: String,
    begun: Instant,
    limit: Duration,
) -> Result<usize, Failure> {
    let mut count = 0;
    while begun.elapsed() < limit {
        let metadata = json!({"name": format!("{prefix}-{count}")});
        let object = json!({"metadata": metadata, "data": {"k": "x".repeat(PAYLOAD)}});
        client.made(MAPS, &object).await?;
        count += 1;
    }
    Ok(count)
}

/// The same through etcd's own protocol: a put of a new key, acknowledged when it is durable. Each has a connection.
async fn put(address: &str, clients: usize, limit: Duration) -> Result<Count, Failure> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(etcd_client::Client::connect([address], None).await?);
    }
    let begun = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(one, mut client)| {
            tokio::spawn(async move {
                let mut count = 0;
                while begun.elapsed() < limit {
                    let key = format!("/bench/{clients}-{one}-{count}");
                    client.put(key, vec![b'x'; STORED], None).await?;
                    count += 1;
                }
                Ok(count)
            })
        })
        .collect();
    sum(tasks, begun).await
}

async fn sum(
    tasks: Vec<tokio::task::JoinHandle<Result<usize, Failure>>>,
    begun: Instant,
) -> Result<Count, Failure> {
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok(Count(count, begun.elapsed()))
}

fn floor(path: &Path, limit: Duration) -> Result<Count, Failure> {
    let mut file = std::fs::File::create(path)?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < limit {
        file.write_all(&[b'x'; STORED])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(Count(count, begun.elapsed()))
}
