//! Who runs the controllers when several servers share a store: the one that holds a Lease.
//!
//! A holder renews its Lease every few seconds. Another server takes it when it has not seen it renewed for as long as the Lease
//! says, by its own clock: clocks of different machines are never compared (client-go's `leaderelection` does the same).

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Controllers, if_found, place, unless_there};
use crate::api::options::WriteOptions;
use crate::api::status::Status;
use crate::api::update::Part;
use crate::api::{Api, Place};
use crate::meta::object::Meta;
use crate::meta::time::MicroTime;
use crate::registry::column::{number, text};

/// The kind of leases.
pub const LEASES: (&str, &str, &str) = ("coordination.k8s.io", "v1", "leases");
const NAME: &str = "heddle-controllers";
/// How long a Lease lasts without being renewed, in seconds.
const SECONDS: u64 = 15;
const LIFE: Duration = Duration::from_secs(SECONDS);
/// A holder that could not renew for so long lets go, before another one takes over.
const LET_GO: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// What was last seen of the Lease, and when it was seen to change.
#[derive(Debug, Default)]
struct Observed {
    renewed: String,
    holder: String,
    at: Option<Instant>,
}

impl Observed {
    fn see(&mut self, lease: &Value, now: Instant) {
        let (renewed, holder) =
            (text(lease, "/spec/renewTime"), text(lease, "/spec/holderIdentity"));
        if self.at.is_none() || renewed != self.renewed || holder != self.holder {
            *self = Self { renewed: renewed.to_owned(), holder: holder.to_owned(), at: Some(now) };
        }
    }

    /// Whether somebody else holds the Lease, as far as can be told.
    fn is_held_by_another(&self, lease: &Value, me: &str, now: Instant) -> bool {
        let seconds = u64::try_from(number(lease, "/spec/leaseDurationSeconds")).unwrap_or(SECONDS);
        let fresh = self.at.is_some_and(|at| now.duration_since(at) < Duration::from_secs(seconds));
        !self.holder.is_empty() && self.holder != me && fresh
    }
}

/// Runs controllers whenever `me` holds the Lease, for ever. `start` is called each time that it is taken.
pub async fn lead(api: Arc<Api>, me: String, start: impl Fn() -> Controllers + Send) {
    let mut observed = Observed::default();
    let mut running: Option<Controllers> = None;
    let mut held = Instant::now();
    loop {
        match take(&api, &me, &mut observed).await {
            Ok(true) => {
                held = Instant::now();
                running.get_or_insert_with(|| {
                    tracing::info!(identity = me, "runs the controllers");
                    start()
                });
            }
            Ok(false) => drop(running.take()),
            Err(status) => {
                tracing::warn!(
                    error = status.message(),
                    "the lease of the controllers cannot be renewed"
                );
                if held.elapsed() > LET_GO {
                    drop(running.take());
                }
            }
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

/// Gives the Lease back, so that another server need not wait for its end.
pub async fn release(api: &Api, me: &str) -> Result<(), Status> {
    let lease = place(api, LEASES, "kube-system", NAME)?;
    let change = |old: &Value| {
        let mut new = old.clone();
        if text(old, "/spec/holderIdentity") == me {
            new["spec"]["holderIdentity"] = json!("");
        }
        Ok(new)
    };
    if_found(api.modify(&lease, Part::Main, None, &WriteOptions::default(), change).await)
        .map(|_| ())
}

/// Takes or renews the Lease if it is to be had.
async fn take(api: &Api, me: &str, observed: &mut Observed) -> Result<bool, Status> {
    let lease = place(api, LEASES, "kube-system", NAME)?;
    let Some(found) = if_found(api.get(&lease).await)? else {
        let object = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NAME},
            "spec": spec(me, &MicroTime::now().to_string(), 0),
        });
        let all = Place { name: String::new(), ..lease };
        return Ok(
            unless_there(api.create(&all, object, &WriteOptions::default()).await)?.is_some()
        );
    };
    let now = Instant::now();
    observed.see(&found, now);
    if observed.is_held_by_another(&found, me, now) {
        return Ok(false);
    }
    let mut wanted = found.clone();
    wanted["spec"] = renewed(&found["spec"], me);
    let revision = Meta::of(&found).resource_version().parse().ok();
    let change = |_: &Value| Ok(wanted.clone());
    match api.modify(&lease, Part::Main, revision, &WriteOptions::default(), change).await {
        Ok(_) => Ok(true),
        Err(status) if status.reason() == "Conflict" => Ok(false),
        Err(status) => Err(status),
    }
}

fn spec(me: &str, now: &str, transitions: i64) -> Value {
    json!({"holderIdentity": me, "leaseDurationSeconds": LIFE.as_secs(), "acquireTime": now, "renewTime": now, "leaseTransitions": transitions})
}

fn renewed(old: &Value, me: &str) -> Value {
    let now = MicroTime::now().to_string();
    if text(old, "/holderIdentity") != me {
        return spec(me, &now, number(old, "/leaseTransitions") + 1);
    }
    let mut new = old.clone();
    new["renewTime"] = json!(now);
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_free_when_it_was_not_seen_to_change_for_its_time() {
        let start = Instant::now();
        let lease = json!({"spec": {"holderIdentity": "a", "renewTime": "2020-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15}});
        let mut observed = Observed::default();
        observed.see(&lease, start);
        assert!(observed.is_held_by_another(&lease, "b", start + Duration::from_secs(14)));
        assert!(!observed.is_held_by_another(&lease, "a", start));
        observed.see(&lease, start + Duration::from_secs(14));
        assert!(!observed.is_held_by_another(&lease, "b", start + Duration::from_secs(15)));
        let mut later = lease.clone();
        later["spec"]["renewTime"] = json!("2020-01-01T00:00:02.000000Z");
        observed.see(&later, start + Duration::from_secs(15));
        assert!(observed.is_held_by_another(&later, "b", start + Duration::from_secs(16)));
        later["spec"]["holderIdentity"] = json!("");
        observed.see(&later, start + Duration::from_secs(16));
        assert!(!observed.is_held_by_another(&later, "b", start + Duration::from_secs(16)));
    }

    #[test]
    fn taking_over_counts() {
        let old = json!({"holderIdentity": "a", "leaseTransitions": 3, "acquireTime": "x"});
        assert_eq!(renewed(&old, "b")["leaseTransitions"], 4);
        let same = renewed(&old, "a");
        assert_eq!((&same["leaseTransitions"], &same["acquireTime"]), (&json!(3), &json!("x")));
    }
}
