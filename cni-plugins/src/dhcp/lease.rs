//! A lease: what a server granted, and until when.

use std::net::Ipv4Addr;

use netns_tools::MacAddr;
use serde::{Deserialize, Serialize};

use super::message::{Message, Options, address, code, seconds};

/// Milliseconds since the machine was started, those that it slept included: no clock that anybody sets.
pub type Time = u64;

/// A lease without a time (RFC 2131 forbids that) lasts so long, as in the reference.
const DEFAULT_SECONDS: u32 = 3600;
/// A lease for ever.
const FOR_EVER: u32 = u32::MAX;
/// No server is asked more often than this, whatever it says.
const SHORTEST_RENEWAL: Time = 1000;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The server that granted it.
    pub server: Ipv4Addr,
    /// The Ethernet address that the server's answer came from: the server's own, or that of the relay towards it.
    pub via: MacAddr,
    /// What else the server said.
    #[serde(with = "hex")]
    pub options: Options,
    /// When to do what about it; `None`: it lasts for ever.
    pub times: Option<Times>,
}

/// T1, T2 and the end of a lease (RFC 2131, section 4.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// From then on its server is asked for more time.
    pub renew: Time,
    /// From then on any server is.
    pub rebind: Time,
    /// From then on the address may not be used.
    pub end: Time,
}

impl Lease {
    /// What an acknowledgement grants. The time counts from when it was asked for. `before`: the lease that is renewed; servers
    /// need not repeat what has not changed.
    pub fn granted(ack: &Message, via: MacAddr, asked: Time, before: Option<&Self>) -> Self {
        let mut options = before.map_or_else(Options::new, |lease| lease.options.clone());
        options.extend(ack.options.clone());
        let server = ack.address(code::SERVER).or(before.map(|lease| lease.server));
        Self {
            address: ack.yiaddr,
            server: server.unwrap_or(Ipv4Addr::BROADCAST),
            via,
            times: Times::of(&ack.options, asked),
            options,
        }
    }

    /// The length of the network's prefix; `None`: the server did not say, or nonsense.
    pub fn prefix(&self) -> Option<u8> {
        let mask = u32::from(address(&self.options, code::SUBNET_MASK)?);
        let ones = mask.leading_ones();
        (mask.count_ones() == ones).then(|| u8::try_from(ones).ok()).flatten()
    }

    /// Whether the address may not be used any more.
    pub fn has_ended(&self, now: Time) -> bool {
        self.times.is_some_and(|times| now >= times.end)
    }
}

impl Times {
    fn of(options: &Options, asked: Time) -> Option<Self> {
        let length = seconds(options, code::LEASE_TIME).unwrap_or(DEFAULT_SECONDS);
        if length == FOR_EVER {
            return None;
        }
        let length = Time::from(length) * 1000;
        let given = |option| seconds(options, option).map(|seconds| Time::from(seconds) * 1000);
        let rebind = given(code::REBINDING_TIME).filter(|time| *time <= length);
        let rebind = rebind.unwrap_or(length / 8 * 7);
        let renew = given(code::RENEWAL_TIME).filter(|time| *time <= rebind);
        let renew = renew.unwrap_or(length / 2).min(rebind).max(SHORTEST_RENEWAL);
        let rebind = rebind.max(renew);
        Some(Self { renew: asked + renew, rebind: asked + rebind, end: asked + length.max(rebind) })
    }
}

/// Options in JSON: `{"12": "6e616d65"}`.
pub mod hex {
    use std::collections::BTreeMap;

    use data_encoding::HEXLOWER;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Options;

    pub fn serialize<S: Serializer>(options: &Options, serializer: S) -> Result<S::Ok, S::Error> {
        let text = options.iter().map(|(option, value)| (*option, HEXLOWER.encode(value)));
        text.collect::<BTreeMap<u8, String>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Options, D::Error> {
        // Inside a tagged enum, serde gives numbers as keys as the text that they are in JSON.
        let text = BTreeMap::<String, String>::deserialize(deserializer)?;
        let decode = |(option, text): (String, String)| {
            let value = HEXLOWER.decode(text.as_bytes()).map_err(D::Error::custom)?;
            Ok((option.parse().map_err(D::Error::custom)?, value))
        };
        text.into_iter().map(decode).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(options: &[(u8, u32)]) -> Option<(Time, Time, Time)> {
        let options = options.iter().map(|(code, value)| (*code, value.to_be_bytes().to_vec()));
        Times::of(&options.collect(), 1000).map(|times| (times.renew, times.rebind, times.end))
    }

    #[test]
    fn times_of_a_lease() {
        use code::{LEASE_TIME, REBINDING_TIME, RENEWAL_TIME};
        let table: [(&[(u8, u32)], _); 7] = [
            (&[(LEASE_TIME, 80)], Some((41_000, 71_000, 81_000))),
            (
                &[(LEASE_TIME, 80), (RENEWAL_TIME, 10), (REBINDING_TIME, 20)],
                Some((11_000, 21_000, 81_000)),
            ),
            // Later than the end, or in the wrong order: what the RFC says instead.
            (
                &[(LEASE_TIME, 80), (RENEWAL_TIME, 90), (REBINDING_TIME, 90)],
                Some((41_000, 71_000, 81_000)),
            ),
            (
                &[(LEASE_TIME, 80), (RENEWAL_TIME, 30), (REBINDING_TIME, 20)],
                Some((21_000, 21_000, 81_000)),
            ),
            (&[], Some((1_801_000, 3_151_000, 3_601_000))),
            (&[(LEASE_TIME, FOR_EVER)], None),
            // Nobody is to be asked all the time.
            (&[(LEASE_TIME, 0)], Some((2000, 2000, 2000))),
        ];
        for (options, expected) in table {
            assert_eq!(times(options), expected, "{options:?}");
        }
    }

    fn lease(mask: &[u8]) -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 0, 5),
            server: Ipv4Addr::new(10, 0, 0, 1),
            via: MacAddr([2, 0, 0, 0, 0, 1]),
            options: Options::from([(code::SUBNET_MASK, mask.to_vec())]),
            times: None,
        }
    }

    #[test]
    fn masks() {
        let table: [(&[u8], _); 6] = [
            (&[255, 255, 255, 0], Some(24)),
            (&[255, 255, 255, 255], Some(32)),
            (&[0, 0, 0, 0], Some(0)),
            (&[255, 0, 255, 0], None),
            (&[255, 255], None),
            (&[], None),
        ];
        for (mask, expected) in table {
            assert_eq!(lease(mask).prefix(), expected, "{mask:?}");
        }
    }

    #[test]
    fn as_json_and_back() {
        let lease = lease(&[255, 255, 0, 0]);
        let json = serde_json::to_value(&lease).unwrap();
        assert_eq!(json["options"], serde_json::json!({ "1": "ffff0000" }));
        assert_eq!(serde_json::from_value::<Lease>(json.clone()).unwrap(), lease);
        let mut damaged = json;
        damaged["options"]["1"] = "f".into();
        assert!(serde_json::from_value::<Lease>(damaged).is_err());
    }
}
