//! Signed claims: JSON Web Signatures (RFC 7515) in compact form, ES256 and RS256 (RFC 7518, 3.3 and 3.4) and nothing else.
//!
//! Why not a crate: those that are kept up bring a second set of cryptography beside the `ring` that TLS uses here, and a choice of
//! algorithms. The algorithm belongs to the key and is not read from the token, so there is nothing to be confused about. Our own keys are
//! ECDSA; RSA is there for those that kubeadm made.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// What stands before the point in the `SubjectPublicKeyInfo` of every P-256 key (RFC 5480).
const P256_HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// 0x04 and two coordinates.
const POINT: usize = 65;
/// `AlgorithmIdentifier` of RSA keys (RFC 3279, 2.3.1): `rsaEncryption` without parameters.
const RSA: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// Shorter RSA keys are not believed, in bytes of the modulus.
const SHORTEST_RSA: usize = 2048 / 8;
/// A longer token is not looked at.
const LONGEST: usize = 16 * 1024;

/// A key that cannot sign or verify tokens.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The private one.
    #[error(
        "the service-account key cannot sign: {0}; an ECDSA P-256 key as PKCS #8 or an RSA key of 2048 to 4096 bits is needed"
    )]
    Private(String),
    /// A public one.
    #[error(
        "a public service-account key cannot be used: {0}; `BEGIN PUBLIC KEY` with ECDSA P-256 or RSA of 2048 bits or more is needed"
    )]
    Public(String),
}

/// A token that is none of ours, or was changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not three parts of base64url with JSON in the first two.
    #[error("it is not a JSON web token")]
    Malformed,
    /// Signed in a way that no key of ours signs in.
    #[error("its algorithm is not that of any of the keys")]
    Algorithm,
    /// No key of ours made the signature.
    #[error("its signature is not of any of the keys")]
    Signature,
}

/// A public key and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PublicKey {
    id: String,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    /// An uncompressed point of P-256.
    Ec(Vec<u8>),
    /// `RSAPublicKey` (RFC 8017, A.1.1), and the numbers in it.
    Rsa { der: Vec<u8>, modulus: Vec<u8>, exponent: Vec<u8> },
}

enum Signer {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// The key that signs, and all whose signatures are believed.
///
/// To rotate: put the old public key into a `sa-*.pub` of the directory, remove `sa.key`, restart; remove the old one when its last token
/// has expired.
pub struct TokenKeys {
    signer: Signer,
    random: SystemRandom,
    accepted: Vec<PublicKey>,
}

impl TokenKeys {
    /// From the PEM texts of the private key and of further public ones (each may hold several).
    pub fn new(private: &str, public: &[String]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let signer = Signer::parse(private, &random).map_err(KeyError::Private)?;
        let mut accepted = vec![signer.public()?];
        for text in public {
            for found in SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()) {
                let der = found.map_err(|error| KeyError::Public(error.to_string()))?;
                let key = PublicKey::parse(&der)?;
                if !accepted.contains(&key) {
                    accepted.push(key);
                }
            }
        }
        Ok(Self { signer, random, accepted })
    }

    /// Claims as a token.
    pub fn sign(&self, claims: &Value) -> String {
        let own = &self.accepted[0];
        let header = json!({"alg": own.algorithm(), "kid": own.id});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        format!("{signed}.{}", encode(self.signer.sign(&self.random, signed.as_bytes())))
    }

    /// The claims of a token that one of the keys signed. Nothing in them has been looked at.
    pub fn verify(&self, token: &str) -> Result<Value, JwtError> {
        if token.len() > LONGEST {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let header = object(header)?;
        let of_algorithm = |key: &&PublicKey| header["alg"] == key.algorithm();
        if !self.accepted.iter().any(|key| of_algorithm(&key)) || !header["crit"].is_null() {
            return Err(JwtError::Algorithm);
        }
        let signature = decode(signature)?;
        let named = |key: &&PublicKey| header["kid"].as_str().is_none_or(|id| id == key.id);
        let mut keys = self.accepted.iter().filter(of_algorithm).filter(named);
        let verified = keys.any(|key| key.verify(signed.as_bytes(), &signature));
        if verified { object(claims) } else { Err(JwtError::Signature) }
    }

    /// Whether a token claims an issuer, without any proof: to tell our tokens from those of others.
    pub fn claims_issuer(token: &str, issuer: &str) -> bool {
        let claims = token.split('.').nth(1).filter(|_| token.len() <= LONGEST);
        claims.and_then(|part| object(part).ok()).is_some_and(|claims| claims["iss"] == issuer)
    }

    /// The algorithms of the keys, as the discovery document names them.
    pub fn algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.accepted.iter().map(PublicKey::algorithm).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The public keys as a JSON Web Key Set (RFC 7517), for `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        let keys: Vec<_> = self.accepted.iter().map(PublicKey::to_json).collect();
        json!({"keys": keys})
    }
}

impl Signer {
    /// From the PEM text of a private key.
    fn parse(text: &str, random: &SystemRandom) -> Result<Self, String> {
        const CONVERT: &str = "`openssl pkcs8 -topk8 -nocrypt -in sa.key` converts it";
        let rsa = |pair: Result<RsaKeyPair, ring::error::KeyRejected>| {
            pair.map(|pair| Self::Rsa(Box::new(pair))).map_err(|error| error.to_string())
        };
        let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| {
            let encrypted = text.contains("ENCRYPTED");
            if encrypted { "it is encrypted".to_owned() } else { error.to_string() }
        })?;
        match der {
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der())),
            PrivateKeyDer::Pkcs8(der) => {
                let (der, curve) = (der.secret_pkcs8_der(), &ECDSA_P256_SHA256_FIXED_SIGNING);
                match (EcdsaKeyPair::from_pkcs8(curve, der, random), RsaKeyPair::from_pkcs8(der)) {
                    (Ok(pair), _) => Ok(Self::Ec(Box::new(pair))),
                    (Err(_), Ok(pair)) => Ok(Self::Rsa(Box::new(pair))),
                    // which of the two it was meant to be is told by the one that did not say "another algorithm"
                    (Err(ec), Err(rsa)) if rsa.to_string() == "WrongAlgorithm" => {
                        Err(ec.to_string())
                    }
                    (Err(_), Err(rsa)) => Err(rsa.to_string()),
                }
            }
            PrivateKeyDer::Sec1(_) => Err(format!("it is in SEC 1 form; {CONVERT}")),
            _ => Err("it is of another kind".to_owned()),
        }
    }

    fn public(&self) -> Result<PublicKey, KeyError> {
        match self {
            Self::Ec(pair) => {
                PublicKey::parse(&[&P256_HEADER[..], pair.public_key().as_ref()].concat())
            }
            Self::Rsa(pair) => PublicKey::parse(&rsa_info(pair.public_key().as_ref())),
        }
    }

    fn sign(&self, random: &SystemRandom, message: &[u8]) -> Vec<u8> {
        const SOUND: &str = "the machine's random numbers do not fail";
        match self {
            Self::Ec(pair) => pair.sign(random, message).expect(SOUND).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, random, message, &mut signature).expect(SOUND);
                signature
            }
        }
    }
}

impl PublicKey {
    /// From a `SubjectPublicKeyInfo`.
    fn parse(der: &[u8]) -> Result<Self, KeyError> {
        let other = || KeyError::Public("it is of another kind".to_owned());
        let id = encode(Sha256::digest(der));
        if let Some(point) = der.strip_prefix(&P256_HEADER[..]) {
            let point = Some(point).filter(|point| point.len() == POINT && point[0] == 4);
            let point = point.ok_or_else(other)?.to_vec();
            return Ok(Self { id, material: Material::Ec(point) });
        }
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| other())?;
        let Ok(x509_parser::public_key::PublicKey::RSA(key)) = info.parsed() else {
            return Err(other());
        };
        let number =
            |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
        let (modulus, exponent) = (number(key.modulus), number(key.exponent));
        if modulus.len() < SHORTEST_RSA || exponent.is_empty() || !rest.is_empty() {
            return Err(KeyError::Public(format!("an RSA key of {} bits", modulus.len() * 8)));
        }
        let der = info.subject_public_key.data.to_vec();
        Ok(Self { id, material: Material::Rsa { der, modulus, exponent } })
    }

    /// As in a token's header.
    fn algorithm(&self) -> &'static str {
        match self.material {
            Material::Ec(_) => "ES256",
            Material::Rsa { .. } => "RS256",
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, key): (&'static dyn VerificationAlgorithm, _) = match &self.material {
            Material::Ec(point) => (&ECDSA_P256_SHA256_FIXED, point),
            Material::Rsa { der, .. } => (&RSA_PKCS1_2048_8192_SHA256, der),
        };
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }

    fn to_json(&self) -> Value {
        match &self.material {
            Material::Ec(point) => {
                let (x, y) = point[1..].split_at(POINT / 2);
                json!({
                    "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
                    "x": encode(x), "y": encode(y),
                })
            }
            Material::Rsa { modulus, exponent, .. } => json!({
                "use": "sig", "kty": "RSA", "kid": self.id, "alg": "RS256",
                "n": encode(modulus), "e": encode(exponent),
            }),
        }
    }
}

/// The `SubjectPublicKeyInfo` of an `RSAPublicKey`, by which its name is made.
fn rsa_info(key: &[u8]) -> Vec<u8> {
    // no bits of the last byte are unused
    let bits = der(0x03, &[&[0], key].concat());
    der(0x30, &[&RSA[..], &bits].concat())
}

/// A value in DER (X.690, 8.1).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.iter().copied().skip_while(|byte| *byte == 0).collect();
    let head = match *length {
        [] => vec![tag, 0],
        [short] if short < 0x80 => vec![tag, short],
        // eight bytes at most
        _ => [&[tag, 0x80 | u8::try_from(length.len()).unwrap_or_default()], &*length].concat(),
    };
    [&*head, content].concat()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Malformed)
}

fn object(part: &str) -> Result<Value, JwtError> {
    let value: Value = serde_json::from_slice(&decode(part)?).map_err(|_| JwtError::Malformed)?;
    if value.is_object() { Ok(value) } else { Err(JwtError::Malformed) }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rcgen::KeyPair;

    use super::*;

    pub fn fresh() -> (TokenKeys, KeyPair) {
        let pair = KeyPair::generate().unwrap();
        (TokenKeys::new(&pair.serialize_pem(), &[]).unwrap(), pair)
    }

    /// A token of any header, signed with the real key.
    fn with_header(keys: &TokenKeys, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        format!("{signed}.{}", encode(keys.signer.sign(&keys.random, signed.as_bytes())))
    }

    #[test]
    fn what_is_signed_is_verified_also_after_a_rotation() {
        let (old, pair) = fresh();
        let token = old.sign(&json!({"sub": "x"}));
        assert_eq!(old.verify(&token).unwrap(), json!({"sub": "x"}));
        let (new, _) = fresh();
        assert_eq!(new.verify(&token), Err(JwtError::Signature));
        let next = KeyPair::generate().unwrap().serialize_pem();
        let both = TokenKeys::new(&next, &[pair.public_key_pem(), pair.public_key_pem()]).unwrap();
        assert_eq!(both.verify(&token).unwrap(), json!({"sub": "x"}));
        let ids: Vec<_> = both.accepted.iter().map(|key| key.id.clone()).collect();
        assert_eq!(ids.len(), 2);
        let shown = both.jwks();
        assert_eq!(shown["keys"][1]["kid"], old.jwks()["keys"][0]["kid"]);
        assert_eq!(
            (&shown["keys"][0]["kty"], &shown["keys"][0]["crv"]),
            (&json!("EC"), &json!("P-256"))
        );
        let x = URL_SAFE_NO_PAD.decode(shown["keys"][1]["x"].as_str().unwrap()).unwrap();
        assert_eq!(x, pair.public_key_raw()[1..33]);
    }

    #[test]
    fn no_header_chooses_another_algorithm() {
        let (keys, pair) = fresh();
        let claims = json!({"sub": "system:admin"});
        for algorithm in ["none", "None", "HS256", "RS256", "ES384", "es256", ""] {
            let token = with_header(&keys, &json!({"alg": algorithm}), &claims);
            assert_eq!(keys.verify(&token), Err(JwtError::Algorithm), "{algorithm}");
        }
        let critical = json!({"alg": "ES256", "crit": ["exp"]});
        assert_eq!(keys.verify(&with_header(&keys, &critical, &claims)), Err(JwtError::Algorithm));
        let unsigned = format!("{}.{}.", encode(r#"{"alg":"ES256"}"#), encode(claims.to_string()));
        assert_eq!(keys.verify(&unsigned), Err(JwtError::Signature));
        let signed = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(claims.to_string()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, pair.public_key_pem().as_bytes());
        let token = format!("{signed}.{}", encode(ring::hmac::sign(&key, signed.as_bytes())));
        assert_eq!(keys.verify(&token), Err(JwtError::Algorithm), "the public key is no secret");
        let other = json!({"alg": "ES256", "kid": "another"});
        assert_eq!(keys.verify(&with_header(&keys, &other, &claims)), Err(JwtError::Signature));
        let anonymous = with_header(&keys, &json!({"alg": "ES256"}), &claims);
        assert_eq!(keys.verify(&anonymous).unwrap(), claims, "without a name all keys are tried");
    }

    #[test]
    fn keys_of_other_kinds_are_refused_with_what_is_needed() {
        let (_, pair) = fresh();
        let wide = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let refused = TokenKeys::new(&wide.serialize_pem(), &[]).err().unwrap();
        assert!(
            refused.to_string().contains("an ECDSA P-256 key as PKCS #8 or an RSA key"),
            "{refused}"
        );
        let refused =
            TokenKeys::new(&pair.serialize_pem(), &[wide.public_key_pem()]).err().unwrap();
        assert_eq!(refused, KeyError::Public("it is of another kind".to_owned()));
    }

    /// As `kubeadm init` makes it: PKCS #1. It is nobody's.
    const RSA_KEY: &str = include_str!("rsa_test_key.pem");
    const RSA_PUBLIC: &str = include_str!("rsa_test_key.pub");
    const RSA_SHORT: &str = include_str!("rsa_short_test_key.pem");

    #[test]
    fn an_rsa_key_of_kubeadm_signs_and_verifies() {
        let keys = TokenKeys::new(RSA_KEY, &[RSA_PUBLIC.to_owned()]).unwrap();
        assert_eq!(keys.accepted.len(), 1, "sa.pub is the same key, also by its name");
        assert_eq!(keys.algorithms(), ["RS256"]);
        let claims = json!({"sub": "x"});
        let token = keys.sign(&claims);
        assert_eq!(keys.verify(&token).unwrap(), claims);
        let shown = &keys.jwks()["keys"][0];
        assert_eq!(
            (&shown["kty"], &shown["alg"], &shown["e"]),
            (&json!("RSA"), &json!("RS256"), &json!("AQAB"))
        );
        assert_eq!(URL_SAFE_NO_PAD.decode(shown["n"].as_str().unwrap()).unwrap().len(), 256);

        // the same key after ours took its place, and the other way round
        let (ours, pair) = fresh();
        assert_eq!(ours.verify(&token), Err(JwtError::Algorithm));
        let both = TokenKeys::new(&pair.serialize_pem(), &[RSA_PUBLIC.to_owned()]).unwrap();
        assert_eq!(both.verify(&token).unwrap(), claims);
        assert_eq!(both.algorithms(), ["ES256", "RS256"]);
        let mixed = with_header(&both, &json!({"alg": "RS256"}), &claims);
        assert_eq!(
            both.verify(&mixed),
            Err(JwtError::Signature),
            "an ECDSA signature is no RSA one"
        );
        let named =
            with_header(&both, &json!({"alg": "RS256", "kid": both.accepted[0].id}), &claims);
        assert_eq!(both.verify(&named), Err(JwtError::Signature));
    }

    #[test]
    fn rsa_keys_that_are_too_short_or_unreadable_are_refused_with_a_remedy() {
        let refused = |text: &str| TokenKeys::new(text, &[]).err().unwrap().to_string();
        assert!(refused(RSA_SHORT).contains("an RSA key of 2048 to 4096 bits is needed"));
        let sec1 = RSA_KEY.replace("RSA PRIVATE", "EC PRIVATE");
        assert!(refused(&sec1).contains("openssl pkcs8 -topk8 -nocrypt"));
        let locked = RSA_KEY.replace("RSA PRIVATE", "ENCRYPTED PRIVATE");
        assert!(refused(&locked).contains("it is encrypted"), "{}", refused(&locked));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_text_is_a_token_by_chance(text in "\\PC{0,80}", dots in "[A-Za-z0-9_=-]{0,20}(\\.[A-Za-z0-9_=-]{0,20}){0,4}") {
            let (keys, _) = fresh();
            prop_assert!(keys.verify(&text).is_err());
            prop_assert!(keys.verify(&dots).is_err());
            TokenKeys::claims_issuer(&dots, "x");
        }

        /// Any other byte anywhere makes it another token. The last character of a base64 text has bits that do not count; they must be 0.
        #[test]
        fn a_changed_token_is_no_token(at in any::<proptest::sample::Index>(), other in proptest::char::range('-', 'z')) {
            let (keys, _) = fresh();
            let token = keys.sign(&json!({"sub": "ada", "exp": 5}));
            let at = at.index(token.len());
            let mut bent: Vec<char> = token.chars().collect();
            prop_assume!(bent[at] != other);
            bent[at] = other;
            prop_assert!(keys.verify(&bent.into_iter().collect::<String>()).is_err());
        }
    }
}
