//! What an operator is told of an API server that does not answer: once, whatever number of kinds is followed, again after a long while,
//! and once when it is back. What comes between is of interest to those who look for a mistake (`debug`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use netns_tools::cause::one_line;

/// Of what a server says so many characters are told.
const WORDS: usize = 300;
/// Between two reminders.
const REMIND: Duration = Duration::from_mins(15);

/// Somebody asked the server several times in vain.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Who asked: a kind of objects, or what is written.
    pub who: &'static str,
    /// What stays as it is meanwhile.
    pub stays: &'static str,
    /// What came of it.
    pub reason: &'a str,
    /// The server answers, and refuses just this ([`is_refusal`]).
    pub refused: bool,
}

/// What is away together, and since when.
#[derive(Debug)]
struct Episode {
    who: BTreeSet<&'static str>,
    since: Instant,
    told: Instant,
}

/// All that is away, by what refuses; `None`: the server as a whole.
#[derive(Debug, Default)]
pub struct Outages(Mutex<BTreeMap<Option<&'static str>, Episode>>);

impl Outages {
    /// Takes a failure in, and tells of it if that is due.
    pub fn failed(&self, failure: Failure<'_>, now: Instant) {
        let Failure { who, stays, reason, refused } = failure;
        let mut episodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = refused.then_some(who);
        for (other, episode) in episodes.iter_mut() {
            if *other != cause {
                episode.who.remove(who);
            }
        }
        let fresh = !episodes.contains_key(&cause);
        let episode = episodes.entry(cause).or_insert_with(|| Episode {
            who: BTreeSet::new(),
            since: now,
            told: now,
        });
        episode.who.insert(who);
        let away_s = now.saturating_duration_since(episode.since).as_secs();
        if fresh && refused {
            tracing::warn!(reason, "the API refuses {who}; what stays: {stays}");
        } else if fresh {
            tracing::warn!(reason, "the API does not answer; what stays: {stays}");
        } else if now.saturating_duration_since(episode.told) >= REMIND {
            episode.told = now;
            tracing::warn!(reason, away_s, "the API still does not answer for {who}");
        } else {
            tracing::debug!(who, reason, away_s, "the API does not answer");
        }
        end_empty(&mut episodes, now);
    }

    /// An answer came; whether it was known that none did.
    pub fn over(&self, who: &'static str, now: Instant) -> bool {
        let mut episodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = false;
        for episode in episodes.values_mut() {
            known |= episode.who.remove(who);
        }
        end_empty(&mut episodes, now);
        known
    }

    /// Whether it is known that `who` has no answers.
    pub fn is_away(&self, who: &'static str) -> bool {
        let episodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        episodes.values().any(|episode| episode.who.contains(who))
    }
}

/// Who went last tells that it is over.
fn end_empty(episodes: &mut BTreeMap<Option<&'static str>, Episode>, now: Instant) {
    episodes.retain(|cause, episode| {
        let goes_on = !episode.who.is_empty();
        if !goes_on {
            let away_s = now.saturating_duration_since(episode.since).as_secs();
            match cause {
                None => tracing::info!(away_s, "the API answers again"),
                Some(who) => tracing::info!(away_s, "the API refuses {who} no longer"),
            }
        }
        goes_on
    });
}

/// What went wrong, on one line. A server's own words, which may be somebody else's page, are cut short.
pub fn reason(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return one_line(error) };
    let words: String = status.message.chars().take(WORDS).flat_map(char::escape_debug).collect();
    let more = if status.message.chars().nth(WORDS).is_some() { "…" } else { "" };
    format!("{words}{more} ({} {})", status.code, status.reason)
}

/// Whether the server answers, and the answer is about what was asked; an expired credential or an overload is about everything.
pub fn is_refusal(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    (400..500).contains(&status.code) && ![401, 408, 429].contains(&status.code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::said::said;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure(who: &'static str, refused: bool) -> Failure<'static> {
        Failure { who, stays: "the rules", reason: "connection refused", refused }
    }

    #[test]
    fn an_hour_without_the_api_is_a_few_lines_whatever_is_followed() {
        let lines = said(|| {
            let (outages, start) = (Outages::default(), Instant::now());
            for second in 0..3600 {
                for who in ["Node", "Service", "EndpointSlice"] {
                    outages.failed(failure(who, false), start + SECOND * second);
                }
            }
            let end = start + SECOND * 3600;
            assert!(outages.over("Node", end) && outages.over("Service", end));
            assert!(outages.is_away("EndpointSlice") && !outages.is_away("Node"));
            assert!(outages.over("EndpointSlice", end) && !outages.over("EndpointSlice", end));
        });
        let of = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
        assert_eq!(
            (lines.len(), of("what stays: the rules"), of("still")),
            (5, 1, 3),
            "{lines:#?}"
        );
        assert!(lines[0].contains("connection refused"), "{lines:#?}");
        assert!(lines[4].contains("answers again") && lines[4].contains("3600"), "{lines:#?}");
    }

    #[test]
    fn what_is_refused_by_itself_is_told_by_itself() {
        let lines = said(|| {
            let (outages, now) = (Outages::default(), Instant::now());
            outages.failed(failure("Node", false), now);
            outages.failed(failure("Service", false), now);
            // it is back, and has other permissions
            assert!(outages.over("Node", now));
            outages.failed(failure("Service", true), now);
            outages.failed(failure("Service", true), now);
            outages.over("Service", now);
        });
        let begins =
            ["the API does not answer", "the API refuses Service", "the API answers again"];
        for words in begins.into_iter().chain(["refuses Service no longer"]) {
            assert!(lines.iter().any(|line| line.contains(words)), "{words}: {lines:#?}");
        }
        assert_eq!(lines.len(), 4, "{lines:#?}");
    }

    #[test]
    fn what_a_server_says_is_on_one_line_and_not_too_long() {
        let page = format!("<html>\n{}", "x".repeat(100_000));
        let status = kube::core::Status { code: 502, message: page, ..Default::default() };
        let told = reason(&kube::Error::Api(Box::new(status)));
        assert!(told.starts_with("<html>\\nxxx") && told.ends_with("x… (502 )"), "{told}");
        assert!(told.len() < 400 && !told.contains('\n'), "{told}");
    }

    #[test]
    fn answers_that_are_about_everything_are_no_refusals() {
        for (code, refusal) in [(403, true), (404, true), (401, false), (429, false), (503, false)]
        {
            let status = kube::core::Status { code, ..Default::default() };
            assert_eq!(is_refusal(&kube::Error::Api(Box::new(status))), refusal, "{code}");
        }
    }
}
