//! The user that a client certificate names.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::User;
use crate::pki::Certificate;

/// Where the audit log finds which credential was shown.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// A client certificate that makes nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// TLS accepted it, yet it cannot be read.
    #[error("the client certificate cannot be read: {0}")]
    Malformed(String),
    /// The connection is older than the certificate's end.
    #[error(
        "the client certificate of {name:?} expired at {end}, or is not valid yet; get a new one"
    )]
    Expired {
        /// Its common name.
        name: String,
        /// Its last moment.
        end: Timestamp,
    },
}

/// Who is at the other end of a connection: common name is the user, organisations are the groups. TLS has verified the chain already; the
/// time is looked at again for each request, because connections live long and are resumed. `None` without a certificate, or
/// when it names nobody.
pub fn user_of(
    chain: Option<&[CertificateDer<'_>]>,
    now: Timestamp,
) -> Result<Option<User>, CertificateError> {
    let Some(first) = chain.and_then(<[_]>::first) else { return Ok(None) };
    let certificate = Certificate::parse(first).map_err(CertificateError::Malformed)?;
    if !certificate.holds_at(now) {
        let Certificate { common_name: name, end, .. } = certificate;
        return Err(CertificateError::Expired { name, end });
    }
    if certificate.common_name.is_empty() {
        return Ok(None);
    }
    let groups = certificate.organizations.iter().map(String::as_str);
    let mut user = User::new(&certificate.common_name, groups);
    let mut digest = "X509SHA256=".to_owned();
    for byte in Sha256::digest(first) {
        digest.push_str(&format!("{byte:02x}"));
    }
    user.extra.insert(CREDENTIAL_ID.to_owned(), vec![digest]);
    Ok(Some(user.authenticated()))
}
