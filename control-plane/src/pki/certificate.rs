//! What a certificate says, as far as it decides anything here.

use std::net::IpAddr;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate and what was read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its bytes.
    pub der: CertificateDer<'static>,
    /// The last common name of the subject, empty without one.
    pub common_name: String,
    /// The organisations of the subject in order.
    pub organizations: Vec<String>,
    /// The DNS names that it is for.
    pub dns_names: Vec<String>,
    /// The addresses that it is for.
    pub addresses: Vec<IpAddr>,
    /// The first moment of its validity.
    pub begin: Timestamp,
    /// The last moment of its validity.
    pub end: Timestamp,
    /// Whether it may sign others.
    pub authority: bool,
    /// The subject public key info (RFC 5280, 4.1).
    pub public_key: Vec<u8>,
}

impl Certificate {
    /// Reads one. The error says in words what is wrong with it.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("there are bytes after its end".to_owned());
        }
        let subject = parsed.subject();
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value.as_str().map(ToOwned::to_owned).map_err(|error| error.to_string())
        };
        let common_names: Vec<_> =
            subject.iter_common_name().map(text).collect::<Result<_, _>>()?;
        let organizations = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
        let (dns_names, addresses) = alternative_names(&parsed)?;
        Ok(Self {
            der: CertificateDer::from(der.to_vec()),
            common_name: common_names.last().cloned().unwrap_or_default(),
            organizations,
            dns_names,
            addresses,
            begin: moment(parsed.validity().not_before.timestamp())?,
            end: moment(parsed.validity().not_after.timestamp())?,
            authority: may_sign(&parsed),
            public_key: parsed.public_key().raw.to_vec(),
        })
    }

    /// All certificates of a PEM text, in order; at least one.
    pub fn parse_pem(text: &str) -> Result<Vec<Self>, String> {
        let blocks: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let blocks = blocks.map_err(|error| format!("not PEM: {error}"))?;
        if blocks.is_empty() {
            return Err("there is no `BEGIN CERTIFICATE` in it".to_owned());
        }
        blocks.iter().map(|der| Self::parse(der)).collect()
    }

    /// Whether it was signed with the key of another certificate.
    pub fn signed_by(&self, authority: &Self) -> bool {
        let (Ok((_, this)), Ok((_, other))) =
            (X509Certificate::from_der(&self.der), X509Certificate::from_der(&authority.der))
        else {
            return false;
        };
        this.issuer() == other.subject() && this.verify_signature(Some(other.public_key())).is_ok()
    }

    /// Whether a moment is within its validity.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.begin <= now && now <= self.end
    }

    /// Whether less than a third of its life is left: time to make a new one.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let life = self.end.as_second() - self.begin.as_second();
        self.end.as_second() - now.as_second() < life / 3
    }

    /// Whether it is for all these names and addresses.
    pub fn covers(&self, names: &[String], addresses: &[IpAddr]) -> bool {
        names.iter().all(|name| self.dns_names.contains(name))
            && addresses.iter().all(|address| self.addresses.contains(address))
    }
}

fn moment(seconds: i64) -> Result<Timestamp, String> {
    Timestamp::from_second(seconds).map_err(|error| error.to_string())
}

fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.key_usage().ok().flatten();
    certificate.is_ca() && usage.is_none_or(|usage| usage.value.key_cert_sign())
}

fn alternative_names(
    certificate: &X509Certificate<'_>,
) -> Result<(Vec<String>, Vec<IpAddr>), String> {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let extension = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => addresses.push(address(bytes)?),
            _ => {}
        }
    }
    Ok((names, addresses))
}

fn address(bytes: &[u8]) -> Result<IpAddr, String> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let wide = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| wide()).map_err(|_| format!("an address of {} bytes", bytes.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pki::{Authority, Purpose, Subject};

    fn sample() -> Certificate {
        let now = Timestamp::from_second(1_900_000_000).unwrap();
        let authority = Authority::make(now).unwrap();
        let subject = Subject::new("ada").groups(["dev", "ops"]);
        let issued = authority.sign(&subject, Purpose::Client, now).unwrap();
        Certificate::parse_pem(&issued.certificate).unwrap().remove(0)
    }

    #[test]
    fn what_is_not_a_certificate_is_said_to_be_none() {
        let error = Certificate::parse_pem("hello").unwrap_err();
        assert_eq!(error, "there is no `BEGIN CERTIFICATE` in it");
        let cut = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        assert!(Certificate::parse_pem(cut).is_err());
        let mut longer = sample().der.to_vec();
        longer.push(0);
        assert_eq!(Certificate::parse(&longer).unwrap_err(), "there are bytes after its end");
    }

    #[test]
    fn hostile_bytes_are_refused_or_read_but_never_a_panic() {
        let good = sample();
        proptest!(ProptestConfig::with_cases(512), |(
            at in 0..good.der.len(), byte: u8, cut in 0..good.der.len(), noise: Vec<u8>
        )| {
            let mut bent = good.der.to_vec();
            bent[at] = byte;
            if let Ok(read) = Certificate::parse(&bent) {
                prop_assert_eq!(read.der.as_ref(), &bent[..]);
            }
            prop_assert!(Certificate::parse(&good.der[..cut]).is_err());
            let _ = Certificate::parse(&noise);
        });
    }
}
