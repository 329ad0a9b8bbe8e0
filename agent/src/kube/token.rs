//! A bearer token in a file, as a pod's service account has one: read anew now and then, as it is rotated.
//!
//! The client library has the same, but takes the end of line that most files have for a part of the token, and then sends no request
//! at all; Kubernetes' own client leaves out white space around it.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::header::{AUTHORIZATION, HeaderValue};

/// How long a token that was read is used; Kubernetes' own client takes the same time.
const FRESH: Duration = Duration::from_mins(1);

/// Why a file has no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it has cannot be sent.
    #[error("the token file {} holds no token: it is empty, or has more than one line", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// The file, and what it had when it was last read.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    header: HeaderValue,
    read: Instant,
}

impl TokenFile {
    /// Reads it for the first time.
    pub fn open(path: PathBuf) -> Result<Self, TokenError> {
        let known = Known { header: read(&path)?, read: Instant::now() };
        Ok(Self { path, known: Mutex::new(known) })
    }

    /// Says who asks.
    pub fn sign<B>(&self, mut request: Request<B>) -> Request<B> {
        request.headers_mut().insert(AUTHORIZATION, self.header(Instant::now()));
        request
    }

    /// The token as a header. One that cannot be read any more is as it was: its file may have been there for the start only.
    fn header(&self, now: Instant) -> HeaderValue {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(known.read) >= FRESH {
            known.read = now;
            match read(&self.path) {
                Ok(header) => known.header = header,
                Err(error) => {
                    let reason = netns_tools::cause::one_line(&error);
                    tracing::debug!(reason, "the last token is used on");
                }
            }
        }
        known.header.clone()
    }
}

fn read(path: &PathBuf) -> Result<HeaderValue, TokenError> {
    let text = fs::read_to_string(path)
        .map_err(|source| TokenError::Read { path: path.clone(), source })?;
    let token = text.trim();
    let header = HeaderValue::try_from(format!("Bearer {token}")).ok();
    let mut header = header
        .filter(|_| !token.is_empty())
        .ok_or_else(|| TokenError::Malformed { path: path.clone() })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_anew_each_minute() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, " one\r\n").unwrap();
        let token = TokenFile::open(path.clone()).unwrap();
        let start = Instant::now();
        let after = |seconds| token.header(start + Duration::from_secs(seconds));
        assert_eq!(after(0), "Bearer one");
        fs::write(&path, "two").unwrap();
        assert_eq!(after(50), "Bearer one");
        assert_eq!(after(61), "Bearer two");
        // half-written, then gone: what is known goes on
        for broken in ["", "\n", "a\nb"] {
            fs::write(&path, broken).unwrap();
            assert_eq!(after(122), "Bearer two", "{broken:?}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(after(183), "Bearer two");
        fs::write(&path, "three\n").unwrap();
        assert_eq!(after(200), "Bearer two");
        assert_eq!(after(244), "Bearer three");
        assert!(after(244).is_sensitive(), "it is not logged");
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let refused = || TokenFile::open(path.clone()).unwrap_err().to_string();
        assert!(refused().starts_with("cannot read the token file"), "{}", refused());
        for text in ["", " \n", "one\ntwo"] {
            fs::write(&path, text).unwrap();
            assert!(refused().contains("holds no token"), "{text:?}: {}", refused());
        }
    }
}
