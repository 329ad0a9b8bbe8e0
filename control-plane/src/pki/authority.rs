//! The certificate authority, and what it signs.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};

use super::{Certificate, PkiError, name};

/// The life of an authority: ten years, as kubeadm's.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// The life of what it signs: a year, as kubeadm's.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How far behind the clocks of clients may be when the authority is new.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be shown by a server.
    Server,
    /// To be shown by a client.
    Client,
}

/// Whom a certificate names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The common name: to Kubernetes the user.
    pub name: String,
    /// The organisations: to Kubernetes the groups.
    pub groups: Vec<String>,
    /// The DNS names of a server.
    pub dns_names: Vec<String>,
    /// The addresses of a server.
    pub addresses: Vec<IpAddr>,
}

impl Subject {
    /// A user without groups.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// A kubelet: the user and group that the Node authorizer looks for.
    pub fn node(name: &str) -> Self {
        Self::new(&format!("system:node:{name}")).groups(["system:nodes"])
    }

    /// With these groups.
    #[must_use]
    pub fn groups<'a>(mut self, groups: impl IntoIterator<Item = &'a str>) -> Self {
        self.groups.extend(groups.into_iter().map(ToOwned::to_owned));
        self
    }
}

/// A certificate and its key as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key (PKCS #8).
    pub key: String,
}

/// The cluster's certificate authority with its key.
pub struct Authority {
    certificate: Certificate,
    text: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one with a new key (ECDSA P-256: small, quick, and known to every client of Kubernetes).
    pub fn make(now: Timestamp) -> Result<Self, PkiError> {
        let key = generate("kubernetes")?;
        let text = Self::self_signed(&key, now)?;
        Self::new(&text, key).map_err(|reason| unsigned("kubernetes", reason))
    }

    /// The text of a new certificate for a key that is there.
    pub(super) fn self_signed(key: &KeyPair, now: Timestamp) -> Result<String, PkiError> {
        let fail = |error| unsigned("kubernetes", error);
        let mut params = params("kubernetes", now - SKEW, now + AUTHORITY_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let name = SanType::DnsName("kubernetes".try_into().map_err(fail)?);
        params.subject_alt_names = vec![name];
        Ok(params.self_signed(key).map_err(fail)?.pem())
    }

    /// From a certificate (the first of the PEM text) and its key. The error says in words what is wrong.
    pub(super) fn new(text: &str, key: KeyPair) -> Result<Self, String> {
        let certificate = Certificate::parse_pem(text)?.remove(0);
        let issuer = Issuer::from_ca_cert_der(&certificate.der, key);
        let issuer = issuer.map_err(|error| error.to_string())?;
        Ok(Self { certificate, text: text.to_owned(), issuer })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Its certificate as PEM, as clients get it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Signs a certificate for a new key.
    ///
    /// # Examples
    /// A kubelet's: `authority.sign(&Subject::node("edge-1"), Purpose::Client, Timestamp::now())`
    pub fn sign(
        &self,
        subject: &Subject,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<Issued, PkiError> {
        let key = generate(&subject.name)?;
        let certificate = self.sign_key(&key, subject, purpose, now)?;
        Ok(Issued { certificate, key: key.serialize_pem() })
    }

    /// Signs a certificate for somebody's public key. It is valid from the authority's own first moment, so that a client whose
    /// clock is behind does not refuse it, and never longer than the authority.
    pub fn sign_key(
        &self,
        key: &impl PublicKeyData,
        subject: &Subject,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let fail = |error: rcgen::Error| unsigned(&subject.name, error);
        let end = (now + LEAF_LIFE).min(self.certificate.end);
        let mut params = params(&subject.name, self.certificate.begin, end)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match purpose {
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        for name in &subject.dns_names {
            let name = name.as_str().try_into().map_err(fail)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        let addresses = subject.addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        let signed = params.signed_by(key, &self.issuer).map_err(fail)?;
        let named = name::renamed(signed.der(), &self.certificate.der, subject, self.issuer.key());
        let der = named.map_err(|reason| unsigned(&subject.name, reason))?;
        Ok(name::pem(&der))
    }
}

/// A new private key.
pub(super) fn generate(whose: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|error| unsigned(whose, error))
}

fn params(name: &str, begin: Timestamp, end: Timestamp) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |moment: Timestamp| {
        let seconds = u64::try_from(moment.as_second())
            .map_err(|_| unsigned(name, format!("{moment} is before 1970")))?;
        Ok(epoch + std::time::Duration::from_secs(seconds))
    };
    (params.not_before, params.not_after) = (at(begin)?, at(end)?);
    let serial = uuid::Uuid::new_v4();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    Ok(params)
}

fn unsigned(subject: &str, reason: impl ToString) -> PkiError {
    PkiError::Sign { subject: format!("{subject:?}"), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn what_is_signed_names_the_user_and_all_groups() {
        let now = at(1_800_000_000);
        let authority = Authority::make(now).unwrap();
        assert!(authority.certificate().authority);
        let subject = Subject::new("ada lovelace").groups(["dev", "ops", "system:masters"]);
        let issued = authority.sign(&subject, Purpose::Client, now).unwrap();
        let read = Certificate::parse_pem(&issued.certificate).unwrap().remove(0);
        assert_eq!(read.common_name, "ada lovelace");
        assert_eq!(read.organizations, ["dev", "ops", "system:masters"]);
        assert!(read.signed_by(authority.certificate()) && !read.authority);
        assert_eq!(
            KeyPair::from_pem(&issued.key).unwrap().subject_public_key_info(),
            read.public_key
        );
        let other = Authority::make(now).unwrap();
        assert!(!read.signed_by(other.certificate()), "the same name, another key");
    }

    #[test]
    fn a_certificate_begins_and_ends_within_its_authority() {
        let made = at(1_800_000_000);
        let authority = Authority::make(made).unwrap();
        let near_its_end = authority.certificate().end - SignedDuration::from_hours(48);
        for now in [made, near_its_end] {
            let issued = authority.sign(&Subject::node("n1"), Purpose::Client, now).unwrap();
            let read = Certificate::parse_pem(&issued.certificate).unwrap().remove(0);
            assert_eq!(read.begin, authority.certificate().begin, "a slow clock is no reason");
            assert_eq!(read.end, (now + LEAF_LIFE).min(authority.certificate().end));
            assert_eq!(read.common_name, "system:node:n1");
            assert_eq!(read.organizations, ["system:nodes"]);
        }
    }

    #[test]
    fn names_that_no_certificate_can_hold_are_refused() {
        let now = at(1_800_000_000);
        let authority = Authority::make(now).unwrap();
        let subject = Subject { dns_names: vec!["bücher".to_owned()], ..Subject::new("x") };
        let Err(refused) = authority.sign(&subject, Purpose::Server, now) else {
            panic!("a DNS name is ASCII")
        };
        assert!(refused.to_string().starts_with(r#"cannot make a certificate for "x": "#));
    }
}
