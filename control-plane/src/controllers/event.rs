//! Events are news: they go after an hour, as kube-apiserver's leases of etcd make them.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Controller, Key, if_found};
use crate::api::Api;
use crate::api::options::DeleteOptions;
use crate::api::status::Status;
use crate::registry::Kind;
use crate::registry::column::text;

/// Ends events.
#[derive(Debug)]
pub struct Expiry {
    /// How long an event lives after it was last seen.
    pub life: Duration,
}

#[async_trait]
impl Controller for Expiry {
    fn name(&self) -> &'static str {
        "event-expiry"
    }

    fn follows(&self, kind: &Kind) -> bool {
        kind.group.is_empty() && kind.plural == "events"
    }

    fn concerned(&self, kind: &Kind, before: Option<&Value>, after: Option<&Value>) -> Vec<Key> {
        // one that is seen again needs no look: the one that is due finds out
        match (before, after) {
            (None, Some(event)) => vec![Key::of(kind, event)],
            _ => Vec::new(),
        }
    }

    async fn reconcile(&self, api: &Api, key: &Key) -> Result<Option<Duration>, Status> {
        let Some(place) = key.place(api) else { return Ok(None) };
        let Some(event) = if_found(api.get(&place).await)? else { return Ok(None) };
        let left = left(&event, self.life, Timestamp::now());
        if left > Duration::ZERO {
            return Ok(Some(left));
        }
        let options = DeleteOptions {
            uid: Some(text(&event, "/metadata/uid").to_owned()),
            ..DeleteOptions::default()
        };
        if_found(api.delete(&place, &options).await).map(|_| None)
    }
}

/// How long an event still lives.
fn left(event: &Value, life: Duration, now: Timestamp) -> Duration {
    const TIMES: [&str; 4] =
        ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
    let seen =
        TIMES.iter().filter_map(|pointer| text(event, pointer).parse::<Timestamp>().ok()).max();
    let age = seen.map_or(SignedDuration::ZERO, |seen| now.duration_since(seen));
    let left = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX).saturating_sub(age);
    Duration::try_from(left).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_lives_from_when_it_was_last_seen() {
        let event = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "lastTimestamp": "2026-01-01T00:30:00Z"});
        let at = |text: &str| left(&event, Duration::from_hours(1), text.parse().expect("a time"));
        assert_eq!(at("2026-01-01T01:00:00Z"), Duration::from_mins(30));
        assert_eq!(at("2026-01-01T02:00:00Z"), Duration::ZERO);
        assert_eq!(
            left(&json!({}), Duration::from_secs(5), Timestamp::now()),
            Duration::from_secs(5)
        );
    }
}
