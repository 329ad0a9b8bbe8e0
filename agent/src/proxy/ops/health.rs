//! Whether the rules keep up with the changes, and whether this node should get traffic at all.
//!
//! The judgement is kube-proxy's (`pkg/proxy/healthcheck/proxy_health.go`, 1.36): a family is unhealthy once a change has waited
//! for longer than the time-out. A family that was never written is still starting, and healthy; so is one that has nothing to
//! do, however long ago it was written.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use jiff::Timestamp;
use netns_tools::iptables::Family;
use serde::Serialize;

use super::clock::Moment;

/// What a time that never was looks like to clients that expect kube-proxy's.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What the judgement depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    timeout: Duration,
    families: BTreeMap<Family, Progress>,
    node_eligible: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// When the rules were written last.
    updated: Option<SystemTime>,
    /// What waits, oldest first: its name, which is since when it waits by the clock of who queued it, and since when by ours.
    /// There are two while one is being written and another has come meanwhile.
    waiting: Vec<(SystemTime, Duration)>,
}

/// The judgement of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When it was made.
    pub now: SystemTime,
    /// When any rules were written last.
    pub updated: Option<SystemTime>,
    /// By family that was written at least once: when, and whether it keeps up.
    pub families: BTreeMap<Family, (SystemTime, bool)>,
    /// Whether the node may get traffic.
    pub node_eligible: bool,
}

impl Health {
    /// Of a proxy that starts. `timeout`: how long a change may wait; kube-proxy takes twice its sync period.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, families: BTreeMap::new(), node_eligible: true }
    }

    /// A family has something to write that has waited `since`. What is known by that name waits on.
    pub fn queued(&mut self, family: Family, since: SystemTime, now: Moment) {
        let waiting = &mut self.families.entry(family).or_default().waiting;
        if !waiting.iter().any(|(name, _)| *name == since) {
            waiting.push((since, now.steady));
        }
    }

    /// A family's rules were written with all that had come by `queued`; what came while they were written still waits.
    pub fn updated(&mut self, family: Family, queued: Option<SystemTime>, now: Moment) {
        let progress = self.families.entry(family).or_default();
        progress.updated = Some(now.wall);
        if let Some(queued) = queued {
            let last = progress.waiting.iter().position(|(name, _)| *name == queued);
            progress.waiting.drain(..last.map_or(progress.waiting.len(), |last| last + 1));
        }
    }

    /// A family's rules could not be written: what came meanwhile waits together with what failed.
    pub fn failed(&mut self, family: Family) {
        self.families.entry(family).or_default().waiting.truncate(1);
    }

    /// Whether the node may get traffic; `true` until told otherwise.
    pub fn set_node_eligible(&mut self, eligible: bool) {
        self.node_eligible = eligible;
    }

    /// Judges.
    pub fn report(&self, now: Moment) -> Report {
        let judge = |progress: &Progress| {
            let late = |since: Duration| now.steady.saturating_sub(since) >= self.timeout;
            Some((
                progress.updated?,
                !progress.waiting.first().is_some_and(|(_, since)| late(*since)),
            ))
        };
        let judged = self.families.iter().filter_map(|(f, progress)| Some((*f, judge(progress)?)));
        let families: BTreeMap<_, _> = judged.collect();
        let updated = families.values().map(|(updated, _)| *updated).max();
        Report { now: now.wall, updated, families, node_eligible: self.node_eligible }
    }
}

impl Report {
    /// Whether the rules keep up.
    pub fn is_healthy(&self) -> bool {
        self.families.values().all(|(_, healthy)| *healthy)
    }

    /// The answer of `/healthz`: the rules keep up and the node may get traffic.
    pub fn healthz(&self) -> (StatusCode, Body) {
        self.answer(self.is_healthy() && self.node_eligible, Some(self.node_eligible))
    }

    /// The answer of `/livez`: the rules keep up.
    pub fn livez(&self) -> (StatusCode, Body) {
        self.answer(self.is_healthy(), None)
    }

    fn answer(&self, good: bool, node_eligible: Option<bool>) -> (StatusCode, Body) {
        // clients of old take an old `lastUpdated` for a failure, though nothing had to be written
        let last_updated = if good { Some(self.now) } else { self.updated };
        let status = |(family, (updated, healthy)): (&Family, &(SystemTime, bool))| {
            let state = FamilyBody { last_updated: time(Some(*updated)), healthy: *healthy };
            (super::family_name(*family), state)
        };
        let body = Body {
            last_updated: time(last_updated),
            current_time: time(Some(self.now)),
            node_eligible,
            healthy: self.is_healthy(),
            status: self.families.iter().map(status).collect(),
        };
        (if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
    }
}

fn time(time: Option<SystemTime>) -> String {
    let stamp = time.and_then(|time| Timestamp::try_from(time).ok());
    stamp.map_or_else(|| NEVER.to_owned(), |stamp| stamp.to_string())
}

/// The document of `/healthz` and `/livez`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    status: BTreeMap<&'static str, FamilyBody>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyBody {
    last_updated: String,
    healthy: bool,
}
