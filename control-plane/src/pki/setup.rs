//! Makes what is missing of the directory, renews what is near its end, and reads the rest as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};

use super::authority::generate;
use super::files::{self, Directory, Exposure};
use super::{Authority, Certificate, Credential, Issued, Kubeconfig, PkiError, Purpose, Subject};

/// No certificate of ours is older than this program (2026-01-01): a clock before it belongs to a machine without a battery whose time
/// has not been set yet, and an authority made then would be expired as soon as it is.
const EARLIEST: Timestamp = Timestamp::constant(1_767_225_600, 0);

const SAY_CONVERT: &str =
    "an unencrypted PKCS #8 key is needed; `openssl pkcs8 -topk8 -nocrypt` converts others";
const SAY_NO_KEY: &str =
    "without the key of the authority it cannot be made; put ca.key or the missing file there";

/// What the certificates are made for.
#[derive(Clone, Debug)]
pub struct PkiOptions {
    /// The directory.
    pub directory: PathBuf,
    /// Further DNS names of the server, such as the machine's name.
    pub names: Vec<String>,
    /// Its addresses, the first address of every service CIDR (`default/kubernetes`) among them.
    pub addresses: Vec<IpAddr>,
    /// The URL that the admin's kubeconfig names.
    pub server: String,
    /// Somebody else's serving certificate chain and key instead of one of ours.
    pub serving: Option<(PathBuf, PathBuf)>,
}

impl PkiOptions {
    /// What the serving certificate names.
    fn subject(&self) -> Subject {
        let own = ["", ".default", ".default.svc", ".default.svc.cluster.local"];
        let mut dns_names: Vec<_> = own.iter().map(|end| format!("kubernetes{end}")).collect();
        dns_names.push("localhost".to_owned());
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        dns_names.extend(self.names.iter().cloned());
        addresses.extend(&self.addresses);
        Subject {
            dns_names: distinct(dns_names),
            addresses: distinct(addresses),
            ..Subject::new("kube-apiserver")
        }
    }
}

/// A private key, its certificate and those that lead to the authority.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) path: PathBuf,
    pub(super) chain: Vec<Certificate>,
    pub(super) text: Issued,
}

/// Everything that is in the directory.
pub struct Pki {
    /// The certificates whose signatures on client certificates are believed; the first one is ours.
    pub authorities: Vec<Certificate>,
    /// `ca.crt`, which pods find in the config map `kube-root-ca.crt`.
    pub authority_text: String,
    /// For signing; `None` when its key is kept elsewhere.
    pub authority: Option<Authority>,
    /// The private key (PEM) that signs service-account tokens.
    pub token_key: String,
    /// Further public keys (PEM) whose tokens are accepted: put the old ones there to rotate `sa.key`.
    pub token_public_keys: Vec<String>,
    /// The path of the admin's kubeconfig; `None` when it cannot be made without the authority's key.
    pub kubeconfig: Option<PathBuf>,
    pub(super) serving: Pair,
}

impl Pki {
    /// Makes or completes the directory, and reads it. Doing it again changes nothing but what is due for renewal.
    pub fn open(options: &PkiOptions, now: Timestamp) -> Result<Self, PkiError> {
        if now < EARLIEST {
            return Err(PkiError::Clock { now });
        }
        let workshop = Workshop::open(&options.directory, now)?;
        let serving = match &options.serving {
            Some((certificate, key)) => workshop.provided(certificate, key)?,
            None => workshop.pair("apiserver", &options.subject(), Purpose::Server)?,
        };
        let token_key = workshop.key("sa.key", "sa")?;
        let kubeconfig = workshop.admin(options, &serving)?;
        let Workshop { directory, authorities, authority_text, authority, .. } = workshop;
        let mut token_public_keys = Vec::new();
        for name in directory.names("sa", ".pub")? {
            token_public_keys.extend(directory.read(&name)?);
        }
        Ok(Self {
            authorities,
            authority_text,
            authority,
            token_key,
            token_public_keys,
            kubeconfig,
            serving,
        })
    }

    /// A kubeconfig for a user or a node with a certificate of its own, a year long.
    pub fn kubeconfig_for(
        &self,
        subject: &Subject,
        server: &str,
        now: Timestamp,
    ) -> Result<Kubeconfig, PkiError> {
        let Some(authority) = &self.authority else {
            return Err(PkiError::Sign {
                subject: format!("{:?}", subject.name),
                reason: SAY_NO_KEY.to_owned(),
            });
        };
        Ok(Kubeconfig {
            server: server.to_owned(),
            authorities: trusted(&self.authority_text, &self.authorities, &self.serving),
            user: subject.name.clone(),
            credential: Credential::Certificate(authority.sign(subject, Purpose::Client, now)?),
        })
    }
}

/// The directory while it is being completed.
struct Workshop {
    directory: Directory,
    now: Timestamp,
    authorities: Vec<Certificate>,
    authority_text: String,
    authority: Option<Authority>,
}

impl Workshop {
    fn open(path: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let directory = Directory::open(path)?;
        let (certificate, key) = (directory.file("ca.crt"), directory.file("ca.key"));
        let mut text = directory.read("ca.crt")?;
        let key_text = match (&text, directory.read_key("ca.key")?) {
            (None, None) => Some(make_key(&directory, "ca.key", "kubernetes")?),
            (_, found) => found,
        };
        let pair = key_text.map(|text| parse_key(&key, &text)).transpose()?;
        if let (None, Some(pair)) = (&text, &pair) {
            let made = Authority::self_signed(pair, now)?;
            text = Some(directory.create("ca.crt", &made, 0o644)?);
        }
        let authority_text = text.unwrap_or_default();
        let authorities = parse_chain(&certificate, &authority_text)?;
        check_authority(&certificate, &authorities[0], now)?;
        let sign = |pair: KeyPair| {
            check_match(&certificate, &authorities[0], &key, &pair)?;
            let made = Authority::new(&authority_text, pair);
            made.map_err(|reason| malformed(&certificate, "a certificate authority", reason))
        };
        let authority = pair.map(sign).transpose()?;
        Ok(Self { directory, now, authorities, authority_text, authority })
    }

    /// A key file of ours, made when it is not there.
    fn key(&self, name: &str, whose: &str) -> Result<String, PkiError> {
        match self.directory.read_key(name)? {
            Some(text) => Ok(text),
            None => make_key(&self.directory, name, whose),
        }
    }

    /// A key and a certificate of ours. What another authority signed is taken as it is.
    fn pair(&self, name: &str, subject: &Subject, purpose: Purpose) -> Result<Pair, PkiError> {
        let (key_name, name) = (format!("{name}.key"), format!("{name}.crt"));
        let (path, key_path) = (self.directory.file(&name), self.directory.file(&key_name));
        let found = self.directory.read(&name)?;
        if let (Some(_), None) = (&found, self.directory.read_key(&key_name)?) {
            let advice = "put the key back, or remove the certificate to have both made anew";
            return Err(PkiError::Half { missing: key_path, present: path, advice });
        }
        if found.is_none() && self.authority.is_none() {
            let present = self.directory.file("ca.crt");
            return Err(PkiError::Half { missing: path, present, advice: SAY_NO_KEY });
        }
        let key_text = self.key(&key_name, &subject.name)?;
        let key = parse_key(&key_path, &key_text)?;
        let made = || {
            let authority = self.authority.as_ref();
            authority.map(|by| by.sign_key(&key, subject, purpose, self.now)).transpose()
        };
        let mut text = match found {
            Some(text) => text,
            None => self.directory.create(&name, &made()?.unwrap_or_default(), 0o644)?,
        };
        let mut chain = parse_chain(&path, &text)?;
        check_match(&path, &chain[0], &key_path, &key)?;
        if self.must_renew(&chain[0], subject)
            && let Some(fresh) = made()?
        {
            self.directory.replace(&name, &fresh, 0o644)?;
            (chain, text) = (parse_chain(&path, &fresh)?, fresh);
        }
        check_time(&path, &chain[0], self.now, "put a new one there, or remove it and its key")?;
        Ok(Pair { path, chain, text: Issued { certificate: text, key: key_text } })
    }

    /// Whether a certificate is one of ours that should be made anew.
    fn must_renew(&self, certificate: &Certificate, subject: &Subject) -> bool {
        let ours =
            self.authority.as_ref().is_some_and(|by| certificate.signed_by(by.certificate()));
        let spent = certificate.is_due(self.now) && self.is_longer(certificate);
        ours && (spent || !certificate.covers(&subject.dns_names, &subject.addresses))
    }

    /// Whether a new certificate would outlive this one: near the authority's own end it would not.
    fn is_longer(&self, certificate: &Certificate) -> bool {
        self.authorities[0].end > certificate.end
    }

    /// Somebody else's certificate and key, in somebody else's place.
    fn provided(&self, path: &Path, key_path: &Path) -> Result<Pair, PkiError> {
        let missing = |path: &Path| PkiError::File {
            operation: "read",
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let text = files::read(path)?.ok_or_else(|| missing(path))?;
        let key_text =
            files::read_key(key_path, Exposure::Group)?.ok_or_else(|| missing(key_path))?;
        let chain = parse_chain(path, &text)?;
        check_match(path, &chain[0], key_path, &parse_key(key_path, &key_text)?)?;
        check_time(path, &chain[0], self.now, "renew it where it comes from")?;
        let text = Issued { certificate: text, key: key_text };
        Ok(Pair { path: path.to_owned(), chain, text })
    }

    /// The admin's certificate and kubeconfig.
    fn admin(&self, options: &PkiOptions, serving: &Pair) -> Result<Option<PathBuf>, PkiError> {
        if self.authority.is_none() {
            return Ok(None);
        }
        let subject = Subject::new("kubernetes-admin").groups(["kubeadm:cluster-admins"]);
        let pair = self.pair("admin", &subject, Purpose::Client)?;
        let config = Kubeconfig {
            server: options.server.clone(),
            authorities: trusted(&self.authority_text, &self.authorities, serving),
            user: subject.name,
            credential: Credential::Certificate(pair.text),
        };
        let (name, text) = ("admin.kubeconfig", config.render());
        if self.directory.read_key(name)?.as_ref() != Some(&text) {
            self.directory.replace(name, &text, 0o600)?;
        }
        Ok(Some(self.directory.file(name)))
    }
}

/// What a client must trust to believe the serving certificate: our authority, and what came with a certificate of another one.
fn trusted(text: &str, authorities: &[Certificate], serving: &Pair) -> String {
    let ours = authorities.iter().any(|authority| serving.chain[0].signed_by(authority));
    let separator = if text.ends_with('\n') { "" } else { "\n" };
    if ours { text.to_owned() } else { format!("{text}{separator}{}", serving.text.certificate) }
}

fn make_key(directory: &Directory, name: &str, whose: &str) -> Result<String, PkiError> {
    directory.create(name, &generate(whose)?.serialize_pem(), 0o600)
}

fn parse_key(path: &Path, text: &str) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(text)
        .map_err(|error| malformed(path, "a private key", format!("{error}; {SAY_CONVERT}")))
}

fn parse_chain(path: &Path, text: &str) -> Result<Vec<Certificate>, PkiError> {
    Certificate::parse_pem(text).map_err(|reason| malformed(path, "certificates", reason))
}

fn malformed(path: &Path, expected: &'static str, reason: String) -> PkiError {
    PkiError::Malformed { path: path.to_owned(), expected, reason }
}

fn check_match(
    path: &Path,
    certificate: &Certificate,
    key_path: &Path,
    key: &KeyPair,
) -> Result<(), PkiError> {
    if key.subject_public_key_info() == certificate.public_key {
        return Ok(());
    }
    Err(PkiError::Mismatched { certificate: path.to_owned(), key: key_path.to_owned() })
}

fn check_authority(path: &Path, first: &Certificate, now: Timestamp) -> Result<(), PkiError> {
    if !first.authority {
        return Err(PkiError::NotAuthority { path: path.to_owned() });
    }
    let advice =
        "keep ca.key, remove ca.crt to have it made anew, and give the new one to the clients";
    check_time(path, first, now, advice)
}

fn check_time(
    path: &Path,
    certificate: &Certificate,
    now: Timestamp,
    advice: &'static str,
) -> Result<(), PkiError> {
    let (path, begin, end) = (path.to_owned(), certificate.begin, certificate.end);
    if now < begin {
        return Err(PkiError::Early { path, begin, now });
    }
    if end < now { Err(PkiError::Expired { path, end, now, advice }) } else { Ok(()) }
}

fn distinct<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
