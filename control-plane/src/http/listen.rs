//! Connections: TLS or, on loopback, none; HTTP/1.1 and HTTP/2; an orderly end.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use super::stall::Impatient;
use super::{Caller, Server, end_of};

/// How long a client may take for the TLS handshake, and for the headers of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);
/// How often a silent HTTP/2 connection is asked whether the client is still there.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
const ALIVE_WITHIN: Duration = Duration::from_secs(15);
/// The most connections at a time; more wait to be accepted.
const MOST_CONNECTIONS: usize = 8192;
const MOST_STREAMS: u32 = 1000;
const MOST_HEADER_BYTES: u32 = 64 * 1024;
/// How long requests that are under way have when the server ends.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Serves until `ending` turns true, then lets requests that are under way finish.
pub async fn listen(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    mut ending: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &places) => accepted,
            () = end_of(&mut ending) => break,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let (server, tls, ending) = (server.clone(), tls.clone(), ending.clone());
                tokio::spawn(async move {
                    connection(server, stream, peer, tls, ending).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; trying again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX);
    if tokio::time::timeout(LAST_WORDS, places.acquire_many(all)).await.is_err() {
        tracing::warn!("some requests did not finish in time and are cut off");
    }
}

async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer.ip().to_canonical(), place))
}

async fn connection(
    server: Arc<Server>,
    stream: TcpStream,
    peer: IpAddr,
    tls: Option<TlsAcceptor>,
    ending: watch::Receiver<bool>,
) {
    let stream = Impatient::new(stream);
    let Some(tls) = tls else {
        let caller = Caller { certificates: None, address: Some(peer) };
        return requests(server, stream, caller, ending).await;
    };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates();
            let certificates = shown
                .map(|chain| Arc::new(chain.iter().map(|one| one.clone().into_owned()).collect()));
            let caller = Caller { certificates, address: Some(peer) };
            requests(server, stream, caller, ending).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn requests(
    server: Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    caller: Caller,
    mut ending: watch::Receiver<bool>,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MOST_HEADER_BYTES as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(ALIVE_WITHIN)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_HEADER_BYTES);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (server, caller) = (server.clone(), caller.clone());
        async move { Ok::<_, Infallible>(server.answer(caller, request).await) }
    });
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end_of(&mut ending) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
