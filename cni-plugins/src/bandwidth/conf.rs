//! What a configuration may say to `bandwidth`.

#[cfg(test)]
mod tests;

use cni::{Error, ErrorCode, PluginConf};
use netns_tools::qdisc::{Clock, Tbf};

/// How long a packet may wait to be sent; what would wait longer is dropped.
const LATENCY_US: u32 = 25_000;
/// Where the limits are if the configuration itself has none: a runtime puts a pod's there (capability `bandwidth`).
const FROM_RUNTIME: &str = "runtimeConfig.bandwidth.";
const KEYS: [&str; 4] = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];

/// A limit in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes that may pass at once.
    pub burst: u32,
}

impl Limit {
    /// The filter that enforces it.
    pub fn filter(self, clock: Clock) -> Tbf {
        Tbf::new(clock, self.rate, self.burst, LATENCY_US)
    }
}

/// A checked configuration. "In" and "out" are the container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conf {
    /// What the container receives.
    pub ingress: Option<Limit>,
    /// What the container sends.
    pub egress: Option<Limit>,
}

impl Conf {
    /// Reads and checks everything. As soon as the configuration itself has one of the keys, the runtime's do not count.
    pub fn parse(keys: &PluginConf) -> Result<Self, Error> {
        let own = KEYS.iter().any(|key| keys.raw.get(*key).is_some_and(|value| !value.is_null()));
        let place = if own { "" } else { FROM_RUNTIME };
        let mut numbers = [0_u64; 4];
        for (number, key) in numbers.iter_mut().zip(KEYS) {
            *number = keys.get(&format!("{place}{key}"))?.unwrap_or_default();
        }
        let [ingress_rate, ingress_burst, egress_rate, egress_burst] = numbers;
        Ok(Self {
            ingress: limit(&format!("{place}ingress"), ingress_rate, ingress_burst)?,
            egress: limit(&format!("{place}egress"), egress_rate, egress_burst)?,
        })
    }

    /// Whether there is no limit at all.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

/// A limit from bits per second and bits. `direction` is how its keys begin.
fn limit(direction: &str, rate: u64, burst: u64) -> Result<Option<Limit>, Error> {
    let refuse = |msg: &str| {
        let details = format!(
            "{direction}Rate is {rate} (bits per second), {direction}Burst is {burst} (bits)"
        );
        Err(Error::new(ErrorCode::InvalidConfig, msg).with_details(details))
    };
    let bytes = u32::try_from(burst / 8).ok().filter(|bytes| *bytes < u32::MAX);
    match (rate, burst, bytes) {
        (0, 0, _) => Ok(None),
        (_, 0, _) => refuse("if rate is set, burst must also be set"),
        (0, _, _) => refuse("if burst is set, rate must also be set"),
        (_, _, None) => refuse("burst cannot be more than 4GB"),
        (..8, _, _) | (_, ..8, _) => refuse("rate and burst cannot be less than a byte (8 bits)"),
        (_, _, Some(burst)) => Ok(Some(Limit { rate: rate / 8, burst })),
    }
}
