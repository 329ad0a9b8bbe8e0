//! Handshakes in memory, with certificates that are good, old, strange or not there.

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConnection};

use super::*;
use crate::auth::certificate::user_of;
use crate::pki::{Authority, Issued, Pki, PkiOptions, Purpose, Subject};

struct Scene {
    _place: tempfile::TempDir,
    pki: Pki,
    config: Arc<ServerConfig>,
}

fn scene() -> Scene {
    let place = tempfile::tempdir().unwrap();
    let options = PkiOptions {
        directory: place.path().join("pki"),
        names: vec![],
        addresses: vec![],
        server: "https://localhost:6443".to_owned(),
        serving: None,
    };
    let pki = Pki::open(&options, Timestamp::now()).unwrap();
    let serving = Arc::new(Serving::new(&pki).unwrap());
    let config = server_config(&pki.authorities, serving).unwrap();
    Scene { _place: place, pki, config }
}

fn client(
    pki: &Pki,
    issued: Option<Issued>,
    version: &'static rustls::SupportedProtocolVersion,
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(pki.authorities[0].der.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match issued {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain =
                vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let name = ServerName::try_from("kubernetes.default.svc").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// Carries the bytes of both until neither has more to say.
fn shake(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), rustls::Error> {
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

fn connect(scene: &Scene, issued: Option<Issued>) -> Result<ServerConnection, rustls::Error> {
    connect_with(scene, issued, &TLS13)
}

fn connect_with(
    scene: &Scene,
    issued: Option<Issued>,
    version: &'static rustls::SupportedProtocolVersion,
) -> Result<ServerConnection, rustls::Error> {
    let mut server = ServerConnection::new(Arc::clone(&scene.config)).unwrap();
    shake(&mut client(&scene.pki, issued, version), &mut server)?;
    Ok(server)
}

#[test]
fn a_client_certificate_makes_a_user() {
    let (scene, now) = (scene(), Timestamp::now());
    let subject = Subject::new("ada").groups(["dev", "ops"]);
    let authority = scene.pki.authority.as_ref().unwrap();
    for version in [&TLS12, &TLS13] {
        let issued = authority.sign(&subject, Purpose::Client, now).unwrap();
        let server = connect_with(&scene, Some(issued), version).unwrap();
        let user = user_of(server.peer_certificates(), now).unwrap().unwrap();
        assert_eq!(user.name, "ada");
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
        let credential = &user.extra["authentication.kubernetes.io/credential-id"];
        assert!(credential[0].starts_with("X509SHA256=") && credential[0].len() == 11 + 64);
        assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]), "the server's order counts");
        let later = now + SignedDuration::from_hours(366 * 24);
        let error = user_of(server.peer_certificates(), later).unwrap_err();
        assert!(error.to_string().contains("expired"), "a connection does not outlive it: {error}");
    }
}

#[test]
fn a_client_needs_no_certificate() {
    let scene = scene();
    let server = connect(&scene, None).unwrap();
    assert!(user_of(server.peer_certificates(), Timestamp::now()).unwrap().is_none());
}

#[test]
fn strangers_and_servers_are_no_users() {
    let (scene, now) = (scene(), Timestamp::now());
    let subject = Subject::new("mallory").groups(["system:masters"]);
    let stranger = Authority::make(now).unwrap().sign(&subject, Purpose::Client, now).unwrap();
    connect(&scene, Some(stranger)).unwrap_err();
    let authority = scene.pki.authority.as_ref().unwrap();
    let server = authority.sign(&subject, Purpose::Server, now).unwrap();
    let error = connect(&scene, Some(server)).unwrap_err().to_string();
    assert!(error.contains("certificate"), "only for servers: {error}");
}
