//! Bearer tokens: those of service accounts, those that nodes join with, and those of a file.

pub mod bootstrap;
pub mod discovery;
mod jwt;
pub mod request;
pub mod service_account;
pub mod static_file;

use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use jwt::{JwtError, KeyError, TokenKeys};

/// Objects that a token speaks of. The server answers from its store or a cache that is never older than the last acknowledged deletion.
#[async_trait]
pub trait Objects: Send + Sync {
    /// An object of the core group by its plural, such as `serviceaccounts`, `pods`, `secrets`, `nodes` (no namespace). The error says why the
    /// store cannot answer.
    async fn get(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, String>;
}

/// What stands for a secret where it is compared: how long a comparison of two digests takes tells nothing about what was hashed.
pub(super) fn digest(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}
