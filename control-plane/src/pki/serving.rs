//! The certificate that the server shows, which may change while it runs.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::setup::Pair;
use super::{Pki, PkiError, PkiOptions};

/// What TLS asks for the certificate of the moment.
#[derive(Debug)]
pub struct Serving {
    current: RwLock<Arc<CertifiedKey>>,
}

impl Serving {
    /// Shows the certificate that was read.
    pub fn new(pki: &Pki) -> Result<Self, PkiError> {
        Ok(Self { current: RwLock::new(certified(&pki.serving)?) })
    }

    /// Renews what is due, reads again what is on the disk, and shows it to connections from now on; answers whether it is another
    /// certificate. To be called every hour or so; on an error the old one stays.
    pub fn reload(&self, options: &PkiOptions, now: Timestamp) -> Result<bool, PkiError> {
        let fresh = certified(&Pki::open(options, now)?.serving)?;
        let mut current = self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let changed = current.cert != fresh.cert;
        *current = fresh;
        Ok(changed)
    }

    /// What is shown now.
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn certified(pair: &Pair) -> Result<Arc<CertifiedKey>, PkiError> {
    let path: &PathBuf = &pair.path;
    let fail = |reason: String| PkiError::Tls { path: path.clone(), reason };
    let key = PrivateKeyDer::from_pem_slice(pair.text.key.as_bytes());
    let key = key.map_err(|error| fail(error.to_string()))?;
    let key = any_supported_type(&key).map_err(|error| fail(error.to_string()))?;
    let chain = pair.chain.iter().map(|certificate| certificate.der.clone()).collect();
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| fail(error.to_string()))?;
    Ok(Arc::new(certified))
}
