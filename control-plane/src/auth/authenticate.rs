//! Who a request is from: its certificate, its bearer token, or nobody in particular.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::User;
use super::certificate::CertificateError;
use super::token::bootstrap::{BootstrapError, BootstrapToken};
use super::token::service_account::{TokenAuthority, TokenError, Verified};
use super::token::static_file::StaticTokens;
use super::token::{Objects, TokenKeys};

/// The subprotocol that carries a token where a browser cannot set a header.
const PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// A request that is from nobody that we know: 401. The client is told no more than `Unauthorized`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// It says nothing, and anonymous requests are off.
    #[error("neither a client certificate nor a bearer token was shown")]
    Nothing,
    /// Its certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A service account's token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A token to join with.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A token that nobody issued.
    #[error("the bearer token is of no known kind")]
    Unknown,
}

/// All ways to show who one is.
pub struct Authenticator {
    /// Service accounts'.
    pub tokens: Arc<TokenAuthority>,
    /// Those of a file.
    pub fixed: StaticTokens,
    /// Whether `Secret`s of `kube-system` let nodes join.
    pub bootstrap: bool,
    /// Whether who shows nothing is `system:anonymous` instead of refused.
    pub anonymous: bool,
}

impl Authenticator {
    /// Who a request is from. `certificate`: what [`super::certificate::user_of`] says of the connection; `bearer`: what
    /// [`bearer`] finds in the headers. A token that is refused is an error even where anonymous requests are allowed.
    pub async fn authenticate(
        &self,
        certificate: Result<Option<User>, CertificateError>,
        bearer: Option<&str>,
        objects: &dyn Objects,
        now: Timestamp,
    ) -> Result<User, Unauthenticated> {
        let refused = match certificate {
            Ok(Some(user)) => return Ok(user),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if let Some(token) = bearer {
            return Ok(self.token(token, &[], objects, now).await?.user);
        }
        match refused {
            Some(error) => Err(error.into()),
            None if self.anonymous => Ok(User::anonymous()),
            None => Err(Unauthenticated::Nothing),
        }
    }

    /// Whose a bearer token is. `audiences`: who it must be for; empty means this server.
    pub async fn token(
        &self,
        token: &str,
        audiences: &[String],
        objects: &dyn Objects,
        now: Timestamp,
    ) -> Result<Verified, Unauthenticated> {
        if TokenKeys::claims_issuer(token, &self.tokens.issuer) {
            return Ok(self.tokens.verify(token, audiences, objects, now).await?);
        }
        let user = match BootstrapToken::parse(token).filter(|_| self.bootstrap) {
            Some(token) => token.verify(objects, now).await?,
            None => self.fixed.user(token).cloned().ok_or(Unauthenticated::Unknown)?,
        };
        // Such tokens are for this server only; upstream refuses them for other audiences.
        let own = &self.tokens.audiences;
        let both: Vec<_> = audiences.iter().filter(|one| own.contains(one)).cloned().collect();
        if !audiences.is_empty() && both.is_empty() {
            return Err(Unauthenticated::Unknown);
        }
        Ok(Verified { user, audiences: if audiences.is_empty() { own.clone() } else { both } })
    }
}

/// The token in `Authorization: Bearer …` (RFC 6750), or in a `Sec-WebSocket-Protocol`.
pub fn bearer(authorization: Option<&str>, protocols: Option<&str>) -> Option<String> {
    let header = authorization.and_then(|text| text.trim().split_once(' '));
    if let Some((scheme, token)) = header
        && scheme.eq_ignore_ascii_case("bearer")
        && !token.trim().is_empty()
    {
        return Some(token.trim().to_owned());
    }
    let mut protocols = protocols.into_iter().flat_map(|text| text.split(','));
    let encoded = protocols.find_map(|one| one.trim().strip_prefix(PROTOCOL))?;
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
#[path = "authenticate_tests.rs"]
mod tests;
