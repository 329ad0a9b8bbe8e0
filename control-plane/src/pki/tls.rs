//! TLS as the API server speaks it, and who is at the other end.

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::{Certificate, PkiError, Serving};

/// TLS 1.2 and 1.3; a client may show a certificate of one of the authorities and need not. HTTP/2 comes first, and HTTP/1.1 stays on offer
/// because exec and port-forward need it.
///
/// # Examples
/// ```ignore
/// let pki = Pki::open(&options, Timestamp::now())?;
/// let serving = Arc::new(Serving::new(&pki)?);
/// let acceptor = TlsAcceptor::from(server_config(&pki.authorities, serving.clone())?);
/// let stream = acceptor.accept(tcp).await?;
/// let user = user_of(stream.get_ref().1.peer_certificates(), now); // auth::certificate
/// ```
pub fn server_config(
    authorities: &[Certificate],
    serving: Arc<Serving>,
) -> Result<Arc<ServerConfig>, PkiError> {
    let fail = |reason: String| PkiError::Tls { path: "ca.crt".into(), reason };
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.der.clone()).map_err(|error| fail(error.to_string()))?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| fail(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| fail(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
