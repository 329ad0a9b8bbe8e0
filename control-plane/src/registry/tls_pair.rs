//! Whether the key of a TLS secret is that of its certificate, in the words of Go's `crypto/tls`, which Kubernetes warns with.

use rustls::pki_types::PrivateKeyDer;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

/// What is wrong with a pair, both in PEM; `None` also where a key is of a kind that cannot be read here.
pub fn mistake(certificate: &[u8], key: &[u8]) -> Option<String> {
    let own = match own_certificate(certificate) {
        Ok(block) => block,
        Err(why) => return Some(why),
    };
    let key = match private_key(key) {
        Ok(block) => block,
        Err(why) => return Some(why),
    };
    let Ok((_, own)) = X509Certificate::from_der(&own.contents) else {
        return Some("x509: malformed certificate".to_owned());
    };
    // whatever it holds, it is nothing that a key without a password is
    let odd = key.label == "ENCRYPTED PRIVATE KEY" || key.contents.first() != Some(&0x30);
    if odd {
        return Some("tls: failed to parse private key".to_owned());
    }
    let public = public_half(&key.contents)?;
    let (_, public) = SubjectPublicKeyInfo::from_der(&public).ok()?;
    let own = &own.tbs_certificate.subject_pki;
    if own.algorithm.algorithm != public.algorithm.algorithm {
        return Some("tls: private key type does not match public key type".to_owned());
    }
    let same = own.subject_public_key.data == public.subject_public_key.data;
    (!same).then(|| "tls: private key does not match public key".to_owned())
}

/// The blocks of a text, but for those that are broken.
fn blocks(text: &[u8]) -> impl Iterator<Item = Pem> + use<'_> {
    Pem::iter_from_buffer(text).filter_map(Result::ok)
}

fn own_certificate(text: &[u8]) -> Result<Pem, String> {
    let mut others = Vec::new();
    for block in blocks(text) {
        if block.label == "CERTIFICATE" {
            return Ok(block);
        }
        others.push(block.label);
    }
    Err(match others.as_slice() {
        [] => "tls: failed to find any PEM data in certificate input".to_owned(),
        [one] if one.ends_with("PRIVATE KEY") => "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".to_owned(),
        more => format!("tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]", more.join(" ")),
    })
}

fn private_key(text: &[u8]) -> Result<Pem, String> {
    let mut others = Vec::new();
    for block in blocks(text) {
        if block.label == "PRIVATE KEY" || block.label.ends_with(" PRIVATE KEY") {
            return Ok(block);
        }
        others.push(block.label);
    }
    Err(match others.as_slice() {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [one] if one == "CERTIFICATE" => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        more => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
            more.join(" ")
        ),
    })
}

/// The public key of a private one, in whichever form that is.
fn public_half(key: &[u8]) -> Option<Vec<u8>> {
    let provider = rustls::crypto::ring::default_provider().key_provider;
    let forms = [
        PrivateKeyDer::Pkcs1(key.to_vec().into()),
        PrivateKeyDer::Pkcs8(key.to_vec().into()),
        PrivateKeyDer::Sec1(key.to_vec().into()),
    ];
    let loaded = forms.into_iter().find_map(|form| provider.load_private_key(form).ok())?;
    Some(loaded.public_key()?.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    #[test]
    fn a_key_is_of_its_certificate_or_not() {
        let [own, other] =
            [(); 2].map(|()| KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::default().self_signed(&own).unwrap().pem();
        let of_edwards = CertificateParams::default().self_signed(&edwards).unwrap().pem();
        let [own, other, edwards] = [own, other, edwards].map(|key| key.serialize_pem());
        let request =
            "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";
        let empty = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let text = "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
        for (certificate, key, expected) in [
            (certificate.as_str(), own.as_str(), None),
            (&of_edwards, &edwards, None),
            (&certificate, &other, Some("tls: private key does not match public key")),
            (&certificate, &edwards, Some("tls: private key type does not match public key type")),
            (&certificate, text, Some("tls: failed to parse private key")),
            (empty, &own, Some("x509: malformed certificate")),
            ("", &own, Some("tls: failed to find any PEM data in certificate input")),
            (&certificate, "x", Some("tls: failed to find any PEM data in key input")),
            (
                &own,
                &own,
                Some(
                    "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched",
                ),
            ),
            (
                request,
                &own,
                Some(
                    "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [CERTIFICATE REQUEST]",
                ),
            ),
            (
                &certificate,
                &certificate,
                Some("tls: found a certificate rather than a key in the PEM for the private key"),
            ),
            (
                &certificate,
                request,
                Some(
                    "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [CERTIFICATE REQUEST]",
                ),
            ),
        ] {
            let found = mistake(certificate.as_bytes(), key.as_bytes());
            assert_eq!(found.as_deref(), expected);
        }
    }
}
