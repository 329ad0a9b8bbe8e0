//! A connection to the members, and reads that survive the loss of one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, GetOptions, GetResponse, Identity};
use etcd_client::{KvClient, TlsOptions, Txn, TxnResponse, WatchClient, WatchOptions};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::{EtcdConfig, EtcdTls};
use super::error::{Meaning, meaning, never_sent, unavailable};
use crate::store::{Revision, StoreError};

/// Etcd limits what it takes, not what it sends: a page of large objects is larger than the library's default of 4 MB.
const LARGEST_ANSWER: usize = i32::MAX as usize;
/// A member that is gone without a word is noticed after this time and half of it. Etcd closes connections that ask more often than
/// every five seconds, or while nothing is going on.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// The members as one.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    pub place: String,
    timeout: Duration,
}

impl Connection {
    /// Connects, and makes sure that somebody answers.
    pub async fn open(config: &EtcdConfig) -> Result<Self, StoreError> {
        let place = config.place();
        let mut options = ConnectOptions::new()
            .with_connect_timeout(config.timeout / 2)
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE / 2)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        if let Some(tls) = &config.tls {
            options = options.with_tls(tls_options(&place, tls)?);
        }
        let members: Vec<_> =
            config.members.iter().map(|member| format!("{scheme}://{member}")).collect();
        let client = Client::connect(members, Some(options)).await;
        let client = client.map_err(|error| unavailable(&place, &error))?;
        let connection = Self { client, place, timeout: config.timeout };
        connection.revision().await?;
        Ok(connection)
    }

    pub fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(LARGEST_ANSWER)
    }

    pub fn watcher(&self) -> WatchClient {
        self.client.watch_client().max_decoding_message_size(LARGEST_ANSWER)
    }

    /// The version of the member that answers.
    pub async fn version(&self) -> Result<String, StoreError> {
        let mut client = self.client.maintenance_client();
        let status = self.once(client.status()).await?;
        status.map(|status| status.version().to_owned()).map_err(|e| unavailable(&self.place, &e))
    }

    /// One try, in the time that a request may take.
    pub async fn once<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, StoreError> {
        timeout(self.timeout, request).await.map_err(|_| self.too_late())
    }

    /// A transaction. It is sent once: tried again is only what found no connection.
    pub async fn commit(&self, transaction: Txn) -> Result<TxnResponse, StoreError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let mut kv = self.kv();
            let answer = timeout_at(deadline, kv.txn(transaction.clone())).await;
            match answer.map_err(|_| self.too_late())? {
                Ok(response) => return Ok(response),
                Err(error) if never_sent(&error) && Instant::now() + PAUSE < deadline => {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(unavailable(&self.place, &error)),
            }
        }
    }

    /// A read. When a member fails, another is asked: reading twice does no harm. `asked` is the revision that it is about, for the
    /// refusal.
    pub async fn read(
        &self,
        key: &[u8],
        options: GetOptions,
        asked: Revision,
    ) -> Result<GetResponse, StoreError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let mut kv = self.kv();
            // A member that does not answer at all must leave time for the others.
            let until = deadline.min(Instant::now() + self.timeout / 3);
            let error = match timeout_at(until, kv.get(key, Some(options.clone()))).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => match meaning(&error) {
                    Meaning::Compacted => return Err(self.compacted(asked).await),
                    Meaning::Future => return Err(self.future(asked).await),
                    Meaning::Final => return Err(unavailable(&self.place, &error)),
                    Meaning::Transient => unavailable(&self.place, &error),
                },
                Err(_) => self.too_late(),
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    /// The latest revision that a majority has.
    pub async fn revision(&self) -> Result<Revision, StoreError> {
        let options = GetOptions::new().with_count_only();
        let response = Box::pin(self.read(b"\0", options, Revision(0))).await?;
        Ok(revision(response.header().map_or(0, etcd_client::ResponseHeader::revision)))
    }

    /// The refusal of a revision that was compacted.
    pub async fn compacted(&self, asked: Revision) -> StoreError {
        match self.oldest().await {
            Ok(oldest) => StoreError::Compacted { asked, oldest },
            Err(error) => error,
        }
    }

    /// The refusal of a revision that has not happened.
    pub async fn future(&self, asked: Revision) -> StoreError {
        match self.revision().await {
            Ok(latest) => StoreError::Future { asked, latest },
            Err(error) => error,
        }
    }

    // Only the refusal of a watch tells it.
    async fn oldest(&self) -> Result<Revision, StoreError> {
        let mut watcher = self.watcher();
        let asking = async {
            let options = WatchOptions::new().with_start_revision(1);
            let mut stream = watcher.watch("\0", Some(options)).await?;
            while let Some(message) = stream.message().await? {
                if message.canceled() {
                    return Ok(revision(message.compact_revision()));
                }
            }
            Err(Error::WatchError("the watch ended without a word".into()))
        };
        self.once(asking).await?.map_err(|error| unavailable(&self.place, &error))
    }

    fn too_late(&self) -> StoreError {
        let (place, seconds) = (&self.place, self.timeout.as_secs_f32());
        let reason = format!(
            "{place}: no member answered within {seconds} s; does it run, and are the address and the certificates right?"
        );
        StoreError::Unavailable { reason }
    }
}

/// Etcd counts with a sign.
pub fn revision(number: i64) -> Revision {
    Revision(number.unsigned_abs())
}

/// A revision as etcd wants it; one that it cannot count to is as far in the future as can be.
pub fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn tls_options(place: &str, tls: &EtcdTls) -> Result<TlsOptions, StoreError> {
    let mut options = TlsOptions::new();
    if let Some(ca) = &tls.ca {
        options = options.ca_certificate(Certificate::from_pem(pem(place, ca)?));
    }
    if let Some((certificate, key)) = &tls.identity {
        let identity = Identity::from_pem(pem(place, certificate)?, pem(place, key)?);
        options = options.identity(identity);
    }
    Ok(options)
}

fn pem(place: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(|error| StoreError::Unusable {
        place: place.into(),
        reason: format!("its certificate file {} cannot be read: {error}", path.display()),
    })
}
