//! Signed claims: JSON Web Signatures (RFC 7515) in compact form, ES256 (RFC 7518, 3.4) and nothing else.
//!
//! Why not a crate: those that are kept up bring a second set of cryptography beside the `ring` that TLS uses here, and a choice of
//! algorithms. With one algorithm that is not read from the token there is nothing to be confused about.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What stands before the point in the `SubjectPublicKeyInfo` of every P-256 key (RFC 5480).
const P256_HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// 0x04 and two coordinates.
const POINT: usize = 65;
/// A longer token is not looked at.
const LONGEST: usize = 16 * 1024;

/// A key that cannot sign or verify tokens.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The private one.
    #[error("the service-account key cannot sign: {0}; an ECDSA P-256 key as PKCS #8 is needed")]
    Private(String),
    /// A public one.
    #[error(
        "a public service-account key cannot be used: {0}; `BEGIN PUBLIC KEY` with ECDSA P-256 is needed"
    )]
    Public(String),
}

/// A token that is none of ours, or was changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not three parts of base64url with JSON in the first two.
    #[error("it is not a JSON web token")]
    Malformed,
    /// Signed in a way that we never sign in.
    #[error("its algorithm is not ES256")]
    Algorithm,
    /// No key of ours made the signature.
    #[error("its signature is not of any of the keys")]
    Signature,
}

/// A public key and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PublicKey {
    id: String,
    point: Vec<u8>,
}

/// The key that signs, and all whose signatures are believed.
///
/// To rotate: put the old public key into a `sa-*.pub` of the directory, remove `sa.key`, restart; remove the old one when its last token
/// has expired.
pub struct TokenKeys {
    signer: EcdsaKeyPair,
    random: SystemRandom,
    accepted: Vec<PublicKey>,
}

impl TokenKeys {
    /// From the PEM texts of the private key and of further public ones (each may hold several).
    pub fn new(private: &str, public: &[String]) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let der = PrivatePkcs8KeyDer::from_pem_slice(private.as_bytes())
            .map_err(|error| KeyError::Private(error.to_string()))?;
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let signer = EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &random)
            .map_err(|error| KeyError::Private(error.to_string()))?;
        let mut accepted = vec![PublicKey::new(signer.public_key().as_ref())];
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
        let header = json!({"alg": "ES256", "kid": self.accepted[0].id});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.signer.sign(&self.random, signed.as_bytes());
        let signature = signature.expect("the machine's random numbers do not fail");
        format!("{signed}.{}", encode(signature))
    }

    /// The claims of a token that one of the keys signed. Nothing in them has been looked at.
    pub fn verify(&self, token: &str) -> Result<Value, JwtError> {
        if token.len() > LONGEST {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let header = object(header)?;
        if header["alg"] != "ES256" || !header["crit"].is_null() {
            return Err(JwtError::Algorithm);
        }
        let signature = decode(signature)?;
        let named = |key: &&PublicKey| header["kid"].as_str().is_none_or(|id| id == key.id);
        let verified = self.accepted.iter().filter(named).any(|key| {
            let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point);
            public.verify(signed.as_bytes(), &signature).is_ok()
        });
        if verified { object(claims) } else { Err(JwtError::Signature) }
    }

    /// Whether a token claims an issuer, without any proof: to tell our tokens from those of others.
    pub fn claims_issuer(token: &str, issuer: &str) -> bool {
        let claims = token.split('.').nth(1).filter(|_| token.len() <= LONGEST);
        claims.and_then(|part| object(part).ok()).is_some_and(|claims| claims["iss"] == issuer)
    }

    /// The public keys as a JSON Web Key Set (RFC 7517), for `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        let keys: Vec<_> = self.accepted.iter().map(PublicKey::to_json).collect();
        json!({"keys": keys})
    }
}

impl PublicKey {
    fn new(point: &[u8]) -> Self {
        let digest = Sha256::digest([&P256_HEADER[..], point].concat());
        Self { id: encode(digest), point: point.to_vec() }
    }

    fn parse(der: &[u8]) -> Result<Self, KeyError> {
        let point = der.strip_prefix(&P256_HEADER[..]);
        let point = point.filter(|point| point.len() == POINT && point[0] == 4);
        point.map(Self::new).ok_or_else(|| KeyError::Public("it is of another kind".to_owned()))
    }

    fn to_json(&self) -> Value {
        let (x, y) = self.point[1..].split_at(POINT / 2);
        json!({
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": encode(x), "y": encode(y),
        })
    }
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
        let signature = keys.signer.sign(&keys.random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature))
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
            refused.to_string().contains("an ECDSA P-256 key as PKCS #8 is needed"),
            "{refused}"
        );
        let refused =
            TokenKeys::new(&pair.serialize_pem(), &[wide.public_key_pem()]).err().unwrap();
        assert_eq!(refused, KeyError::Public("it is of another kind".to_owned()));
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
