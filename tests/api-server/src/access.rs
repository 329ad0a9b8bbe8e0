//! Who may ask, and how they show who they are: certificates of an authority that a test makes, and bearer tokens.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::http::{HeaderMap, header};
use axum::serve::IncomingStream;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::server::Doorkeeper;

/// A client that does not get through its handshake in this time is left.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Signs the certificates of a server and its clients.
pub struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    /// The clients' certificates, with their users.
    issued: Arc<Mutex<Vec<(CertificateDer<'static>, String)>>>,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    ///
    /// # Panics
    /// When certificates cannot be made, which only a mistake here can cause.
    #[expect(
        clippy::new_without_default,
        reason = "each is another authority, with keys of its own"
    )]
    pub fn new() -> Self {
        let mut params = named("an authority of a test", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            issued: Arc::default(),
        }
    }

    /// Its own certificate in PEM, for who is to trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a client of that name.
    ///
    /// # Panics
    /// See [`Authority::new`].
    pub fn client(&self, user: &str) -> Credential {
        let mut params = named(user, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.push((certificate.der().clone(), user.to_owned()));
        Credential { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Takes TLS connections of clients with a certificate of ours, or with none.
    fn acceptor(&self) -> TlsAcceptor {
        let mut params = named("server", &["127.0.0.1", "localhost"]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("a key in PKCS #8");
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("our own certificate");
        let provider = Arc::new(ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let clients = clients.allow_unauthenticated().build().expect("a verifier");
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_client_cert_verifier(clients);
        let chain = vec![certificate.der().clone()];
        TlsAcceptor::from(Arc::new(
            config.with_single_cert(chain, secret).expect("a key that fits"),
        ))
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("names of hosts");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// What a server asks of its clients.
pub struct Access {
    acceptor: TlsAcceptor,
    issued: Arc<Mutex<Vec<(CertificateDer<'static>, String)>>>,
    tokens: Mutex<BTreeSet<String>>,
}

impl Access {
    pub fn of(authority: &Authority) -> Self {
        let (acceptor, issued) = (authority.acceptor(), authority.issued.clone());
        Self { acceptor, issued, tokens: Mutex::default() }
    }

    pub fn set_tokens(&self, tokens: &[&str]) {
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Makes a connection secure; the user of its certificate, if it has one. `None`: it is none that is let in.
    pub async fn handshake(&self, stream: TcpStream) -> Option<(Box<dyn Stream>, Option<String>)> {
        let stream =
            tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await.ok()?.ok()?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let user = shown.and_then(|shown| issued.iter().find(|(known, _)| known == shown));
        let user = user.map(|(_, user)| user.clone());
        drop(issued);
        Some((Box::new(stream), user))
    }

    /// Who asks: `certificate NAME` or `token TOKEN`. `None`: nobody that is known.
    pub fn user(&self, peer: &Peer, headers: &HeaderMap) -> Option<String> {
        if let Some(user) = &peer.user {
            return Some(format!("certificate {user}"));
        }
        let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.contains(token).then(|| format!("token {token}"))
    }
}

/// A connection, plain or secure.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The user that its certificate names.
    pub user: Option<String>,
}

impl Connected<IncomingStream<'_, Doorkeeper>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Doorkeeper>) -> Self {
        stream.remote_addr().clone()
    }
}
