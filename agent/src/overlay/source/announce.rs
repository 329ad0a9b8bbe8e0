//! This node's own annotations, kept as they should be: written when they differ, and again when somebody changes or removes them.
//!
//! Only keys of the overlay are ever written or removed, each by its name in a merge patch (RFC 7386): others' annotations cannot be
//! touched, whatever happens to the object meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Own;
use crate::kube::{Connection, Failure, Retry, chance, is_refusal, reason};

/// How long the watch may take to tell of what was written before it is looked at again.
const ECHO: Duration = Duration::from_secs(10);
/// How long an answer may take. A connection whose own address is gone never has one.
const REQUEST: Duration = Duration::from_secs(10);
/// Whoever changes what was written this short a while ago will do it again.
const FEUD: Duration = Duration::from_mins(1);
/// After so many of these it is told.
const FEUD_TOLD: u32 = 3;
/// Who asks, and what stays while there is no answer, for logs.
const WHO: &str = "this Node's annotations";
const STAYS: &str = "what other nodes know of this one";
/// Who is said to have written (`managedFields`).
const MANAGER: &str = "heddle-overlay";

/// What the annotations should be, by key; `None`: not there.
pub type Wanted = BTreeMap<&'static str, Option<String>>;

/// What is told of the announcement; `None`: it is as it should be.
pub type Told = Option<String>;

/// Keeps the annotations.
pub struct Announcer {
    /// The server.
    pub connection: Connection,
    /// This node.
    pub name: String,
    /// What they should be; `None`: that is not known yet.
    pub wanted: watch::Receiver<Option<Wanted>>,
    /// What they are; `None`: that is not known yet.
    pub own: watch::Receiver<Option<Own>>,
    /// What is wrong.
    pub told: watch::Sender<Told>,
    /// Pauses after failures.
    pub retry: Retry,
}

impl Announcer {
    /// Keeps them until nobody says any more what they should be.
    pub async fn run(mut self) {
        let api = Api::<Node>::all(Client::clone(&self.connection));
        let parameters =
            PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let (mut failures, mut quarrel) = (0, Quarrel::default());
        loop {
            if self.patch().is_none() {
                self.connection.outages.over(WHO, std::time::Instant::now());
                if !quarrel.goes_on() {
                    self.tell(None);
                }
                if !self.changed(quarrel.goes_on()).await {
                    return;
                }
                continue;
            }
            let times = quarrel.again();
            if times > 0 {
                self.complain_of_quarrel(times);
                sleep(self.retry.pause(times, chance())).await;
            }
            // what came meanwhile counts
            let Some(patch) = self.patch() else { continue };
            let patch = Patch::Merge(&patch);
            let asked = timeout(REQUEST, api.patch_metadata(&self.name, &parameters, &patch)).await;
            let silent = || (format!("no answer within {} s", REQUEST.as_secs()), false);
            let answer = asked.map_err(|_| silent()).and_then(|answer| {
                answer.map_err(|error| {
                    (format!("{}{}", reason(&error), remedy(&error)), is_refusal(&error))
                })
            });
            match answer {
                Ok(_) => {
                    failures = 0;
                    self.connection.outages.over(WHO, std::time::Instant::now());
                    tracing::info!(node = self.name, "this node is announced in its Node object");
                    // the watch tells of it; if it does not, what is known may not be what is
                    let echoed = timeout(ECHO, self.own.changed()).await.is_ok();
                    quarrel.last = echoed.then(Instant::now);
                }
                Err((reason, refused)) => {
                    failures += 1;
                    // a connection that was cut is made anew
                    if refused || failures > 1 {
                        let failure = Failure { who: WHO, stays: STAYS, reason: &reason, refused };
                        self.connection.outages.failed(failure, std::time::Instant::now());
                    }
                    let node = &self.name;
                    let problem = format!(
                        "other nodes are not told how to reach this one: cannot annotate Node {node}: {reason}"
                    );
                    self.told.send_replace(Some(problem));
                    sleep(self.retry.pause(failures, chance())).await;
                }
            }
        }
    }

    /// Waits until something may be different. False: nobody says any more what it should be.
    async fn changed(&mut self, quarrelling: bool) -> bool {
        tokio::select! {
            changed = self.wanted.changed() => changed.is_ok(),
            changed = self.own.changed() => changed.is_ok(),
            () = sleep(FEUD), if quarrelling => true,
        }
    }

    /// What to write; `None`: nothing, or it cannot be known.
    fn patch(&mut self) -> Option<Value> {
        let wanted = self.wanted.borrow_and_update();
        let own = self.own.borrow_and_update();
        patch(wanted.as_ref()?, own.as_ref()?.as_ref()?)
    }

    fn complain_of_quarrel(&self, times: u32) {
        if times == FEUD_TOLD {
            self.tell(Some(
                "somebody changes this node's announcement (annotations of its Node object) again and again; does flanneld run here, too? \
                 Stop it, or this overlay"
                    .to_owned(),
            ));
        }
    }

    fn tell(&self, what: Told) {
        self.told.send_if_modified(|known| {
            let differs = *known != what;
            if let Some(problem) = what.as_ref().filter(|_| differs) {
                tracing::warn!("{problem}");
            }
            *known = what;
            differs
        });
    }
}

/// Somebody else who writes the same annotations.
#[derive(Debug, Default)]
struct Quarrel {
    /// When ours was seen in force last.
    last: Option<Instant>,
    times: u32,
}

impl Quarrel {
    fn is_fresh(&self) -> bool {
        self.last.is_some_and(|last| last.elapsed() < FEUD)
    }

    /// It is to be written again: how often in a row somebody has changed it soon after.
    fn again(&mut self) -> u32 {
        self.times = if self.is_fresh() { self.times + 1 } else { 0 };
        self.times
    }

    /// Whether it is to be told still.
    fn goes_on(&self) -> bool {
        self.times >= FEUD_TOLD && self.is_fresh()
    }
}

/// What to do about it, where that is known.
fn remedy(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            "; allow it: conf/overlay-rbac.yaml has the role (get, list, watch and patch of nodes)"
        }
        kube::Error::Api(status) if status.code == 404 => {
            "; the kubelet registers it, and node_name must be its name"
        }
        _ => "",
    }
}

/// The merge patch that makes `have` what `want` asks for; `None`: it is.
fn patch(want: &Wanted, have: &BTreeMap<String, String>) -> Option<Value> {
    let differs =
        |(key, value): &(&&'static str, &Option<String>)| have.get(**key) != value.as_ref();
    let changes: serde_json::Map<_, _> =
        want.iter().filter(differs).map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    if changes.is_empty() {
        return None;
    }
    // a merge patch sent for metadata alone must still say what it is of
    Some(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"annotations": changes}}))
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let have = |all: &[(&str, &str)]| {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let want = Wanted::from([("a", Some("1".to_owned())), ("b", None)]);
        let of = |changes: Value| {
            Some(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"annotations": changes}}))
        };
        let table = [
            (have(&[]), of(json!({"a": "1"}))),
            (have(&[("a", "1")]), None),
            (have(&[("a", "2"), ("x", "y")]), of(json!({"a": "1"}))),
            (have(&[("a", "1"), ("b", "")]), of(json!({"b": null}))),
        ];
        for (have, expected) in table {
            assert_eq!(patch(&want, &have), expected, "{have:?}");
        }
    }
}
