//! The side of `heddle-agent status`: ask the agent's socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::StatusDocument;

/// How long an agent may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent answers at {}: is heddle-agent running, and is this its socket? (--socket)", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something else went wrong.
    #[error("the agent at {} did not answer as it should: {reason}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What.
        reason: String,
    },
}

/// Asks the agent behind a socket.
pub async fn fetch_status(path: &Path) -> Result<StatusDocument, ClientError> {
    let answer = |reason: String| ClientError::Answer { path: path.to_owned(), reason };
    match tokio::time::timeout(LIMIT, fetch(path)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(answer(format!("nothing within {LIMIT:?}"))),
    }
}

async fn fetch(path: &Path) -> Result<StatusDocument, ClientError> {
    let answer = |reason: String| ClientError::Answer { path: path.to_owned(), reason };
    let stream = UnixStream::connect(path).await;
    let stream =
        stream.map_err(|source| ClientError::NotRunning { path: path.to_owned(), source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| answer(error.to_string()))?;
    tokio::spawn(connection);
    let request =
        hyper::Request::get("/v1/status").header("host", "heddle").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| answer(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| answer(error.to_string()))?;
    let body =
        response.into_body().collect().await.map_err(|error| answer(error.to_string()))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| answer(error.to_string()))
}
