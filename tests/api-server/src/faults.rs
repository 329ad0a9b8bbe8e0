//! How the server is to misbehave.

use std::time::Duration;

/// What is wrong at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "faults: each by itself")]
pub struct Faults {
    /// Connections are closed as soon as they are made.
    pub away: bool,
    /// Requests are answered with this status.
    pub status: Option<u16>,
    /// Changes of objects' status are not permitted (403).
    pub no_status: bool,
    /// Requests wait so long before they are answered.
    pub delay: Duration,
    /// A watch from a version that is too old is answered with 410, not with an event that says so.
    pub gone_as_status: bool,
    /// Watches end as soon as they have begun.
    pub short_watches: bool,
}
