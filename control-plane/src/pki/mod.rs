//! Certificates: the authority, what it signs, and the files they live in.
//!
//! [`Pki::open`] makes or completes a directory and reads it; [`Serving`] is what TLS asks for the certificate of the moment;
//! [`tls::server_config`] puts both together. Every file is written whole under another name and then linked into its place, keys
//! before certificates, so a death at any step leaves files that the next start takes as they are and completes. A key is never
//! written twice: a renewal signs the same key anew, which replaces one file at once.
//!
//! ```text
//! DIR                     0700
//!   ca.key  ca.crt        the authority; ca.key may be missing when everything else is provided
//!   apiserver.key  .crt   what the server shows; may be signed by another authority, and is then never touched
//!   admin.key  .crt       user kubernetes-admin, group kubeadm:cluster-admins
//!   sa.key                signs service-account tokens (ES256; RS256 with a key of kubeadm); sa.pub, sa-*.pub: further keys that are accepted
//!   admin.kubeconfig      0600, made from the files above whenever it differs
//! ```

mod authority;
mod certificate;
mod files;
mod kubeconfig;
mod name;
mod serving;
mod setup;
pub mod tls;

use std::path::PathBuf;

pub use authority::{Authority, Issued, Purpose, Subject};
pub use certificate::Certificate;
pub use files::{Directory, Exposure};
pub use kubeconfig::{Credential, Kubeconfig};
pub use serving::Serving;
pub use setup::{Pki, PkiOptions};

/// Certificates or keys that cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or directory that cannot be read or written.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A private key that others can read.
    #[error(
        "the private key {} can be read by others (mode {mode:04o}); run `chmod 600` on it, and replace it if somebody may have copied it",
        path.display()
    )]
    Exposed {
        /// The key.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not what its name says.
    #[error("{} does not hold {expected}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A certificate for another key.
    #[error(
        "the certificate {} is not for the key {}: put the matching key there, or remove both to have them made anew",
        certificate.display(), key.display()
    )]
    Mismatched {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The other half is there.
    #[error("{} is missing, but {} is there: {advice}", missing.display(), present.display())]
    Half {
        /// What is missing.
        missing: PathBuf,
        /// What is there.
        present: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// Past its end.
    #[error("{} expired at {end} (the clock says {now}): {advice}", path.display())]
    Expired {
        /// The certificate.
        path: PathBuf,
        /// The last moment.
        end: jiff::Timestamp,
        /// When it was looked at.
        now: jiff::Timestamp,
        /// What to do.
        advice: &'static str,
    },
    /// Before its beginning.
    #[error(
        "{} is valid from {begin} only, and the clock says {now}: set the clock, then start again",
        path.display()
    )]
    Early {
        /// The certificate.
        path: PathBuf,
        /// The first moment.
        begin: jiff::Timestamp,
        /// When it was looked at.
        now: jiff::Timestamp,
    },
    /// Certificates made now would be of no use later.
    #[error(
        "the clock says {now}, which is before this program was written: set the clock before certificates are made"
    )]
    Clock {
        /// What it says.
        now: jiff::Timestamp,
    },
    /// It may not sign.
    #[error(
        "{} is not a certificate authority (basicConstraints CA and keyUsage keyCertSign are needed)",
        path.display()
    )]
    NotAuthority {
        /// The certificate.
        path: PathBuf,
    },
    /// What a certificate was to be made for.
    #[error("cannot make a certificate for {subject}: {reason}")]
    Sign {
        /// Whom.
        subject: String,
        /// Why.
        reason: String,
    },
    /// What TLS thinks of them.
    #[error("TLS cannot be served with {}: {reason}", path.display())]
    Tls {
        /// The certificate.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}
