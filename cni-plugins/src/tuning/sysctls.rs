//! The kernel parameters of a configuration: read from the raw text, because a parsed document has forgotten that a key was
//! written twice, and in which order.

use std::fmt;

use cni::{Error, ErrorCode};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// A kernel parameter and its value, as the configuration writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// With `.` or `/`; may contain `IFNAME`.
    pub key: String,
    /// What to write.
    pub value: String,
}

impl Sysctl {
    /// The places below `/proc/sys` that the key may mean, best first, for the interface `ifname`.
    ///
    /// Either the first separator is the separator, as for sysctl(8), so that interfaces' names may have dots; or every `.` is
    /// one, as the reference has it. `IFNAME` becomes the interface's name after that, once.
    ///
    /// # Errors
    /// When the key would lead elsewhere than to the network's parameters.
    pub fn places(&self, ifname: &str) -> Result<Vec<String>, Error> {
        let dots_are_slashes = self.key.replace('.', "/");
        let swapped: String = match self.key.find(['.', '/']) {
            Some(at) if self.key.as_bytes()[at] == b'.' => self.key.chars().map(swap).collect(),
            _ => self.key.clone(),
        };
        let mut places = Vec::new();
        for place in [swapped, dots_are_slashes] {
            let place = place.replacen("IFNAME", ifname, 1);
            if is_of_the_network(&place) && !places.contains(&place) {
                places.push(place);
            }
        }
        if places.is_empty() {
            let msg = format!("invalid net sysctl key: {:?}", self.key);
            let details = "only parameters of the network can be set: net.… below /proc/sys";
            return Err(Error::new(ErrorCode::InvalidConfig, msg).with_details(details));
        }
        Ok(places)
    }
}

fn swap(letter: char) -> char {
    match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

fn is_of_the_network(place: &str) -> bool {
    let mut parts = place.split('/');
    parts.next() == Some("net")
        && place.len() > "net/".len()
        && parts.all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}

/// `sysctl`, with what `args.cni.sysctl` adds or replaces.
pub fn read(document: &[u8]) -> Result<Vec<Sysctl>, Error> {
    let document: Document = serde_json::from_slice(document).map_err(|error| {
        Error::new(ErrorCode::Decode, "cannot decode \"sysctl\"").with_details(error.to_string())
    })?;
    let mut sysctls = without_twins(document.sysctl)?;
    let more = document.args.and_then(|args| args.cni).and_then(|cni| cni.sysctl);
    for sysctl in without_twins(more)? {
        match sysctls.iter_mut().find(|known| known.key == sysctl.key) {
            Some(known) => *known = sysctl,
            None => sysctls.push(sysctl),
        }
    }
    Ok(sysctls)
}

fn without_twins(pairs: Option<Pairs>) -> Result<Vec<Sysctl>, Error> {
    let pairs = pairs.unwrap_or_default().0;
    for (number, sysctl) in pairs.iter().enumerate() {
        if pairs[..number].iter().any(|earlier| earlier.key == sysctl.key) {
            let msg = "duplicated sysctl keys are not allowed";
            return Err(Error::new(ErrorCode::InvalidConfig, msg)
                .with_details(format!("{:?} is written twice", sysctl.key)));
        }
    }
    Ok(pairs)
}

#[derive(Deserialize)]
struct Document {
    sysctl: Option<Pairs>,
    args: Option<Args>,
}

#[derive(Deserialize)]
struct Args {
    cni: Option<CniArgs>,
}

#[derive(Deserialize)]
struct CniArgs {
    sysctl: Option<Pairs>,
}

/// An object of texts, in the order in which it is written, twins and all.
#[derive(Default)]
struct Pairs(Vec<Sysctl>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are texts")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some((key, value)) = map.next_entry()? {
                    pairs.push(Sysctl { key, value });
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<(String, String)> {
        read(text.as_bytes()).unwrap().into_iter().map(|s| (s.key, s.value)).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn in_the_order_of_the_document() {
        let text = r#"{"sysctl": {"net.b": "1", "net.a": "2"}, "args": {"cni": {"sysctl": {"net.b": "3", "net.c": "4"}}}}"#;
        assert_eq!(keys(text), [pair("net.b", "3"), pair("net.a", "2"), pair("net.c", "4")]);
        for empty in
            ["{}", r#"{"sysctl": null, "args": null}"#, r#"{"args": {"cni": {"sysctl": {}}}}"#]
        {
            assert_eq!(keys(empty), []);
        }
    }

    #[test]
    fn twins_are_refused() {
        for text in [
            r#"{"sysctl": {"net.a": "1", "net.b": "1", "net.a": "1"}}"#,
            r#"{"args": {"cni": {"sysctl": {"net.a": "1", "net.a": "2"}}}}"#,
            // The same key, written otherwise.
            r#"{"sysctl": {"net.a": "1", "net.\u0061": "2"}}"#,
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert_eq!(error.msg, "duplicated sysctl keys are not allowed", "{text}");
            assert!(error.details.contains("net.a"), "{error}");
        }
        // Two objects: which one counts?
        let two = read(br#"{"sysctl": {"net.a": "1"}, "sysctl": {"net.b": "1"}}"#).unwrap_err();
        assert!(two.details.contains("duplicate field"), "{two}");
        assert!(read(br#"{"sysctl": {"net.a": 1}}"#).is_err());
    }

    #[test]
    fn places() {
        for (key, ifname, wanted) in [
            ("net.core.somaxconn", "eth0", &["net/core/somaxconn"][..]),
            (
                "net/ipv4/conf/IFNAME/arp_notify",
                "eth0.5",
                &["net/ipv4/conf/eth0.5/arp_notify", "net/ipv4/conf/eth0.5/arp_notify"][..1],
            ),
            ("net.ipv4.conf.IFNAME.arp_notify", "eth0.5", &["net/ipv4/conf/eth0.5/arp_notify"]),
            (
                "net.ipv4.conf.eth0/5.arp_notify",
                "eth0",
                &["net/ipv4/conf/eth0.5/arp_notify", "net/ipv4/conf/eth0/5/arp_notify"],
            ),
            (
                "net/ipv4/conf/eth0.5/arp_notify",
                "eth0",
                &["net/ipv4/conf/eth0.5/arp_notify", "net/ipv4/conf/eth0/5/arp_notify"],
            ),
            (
                "net.ipv4.conf/IFNAME/arp_notify",
                "eth0",
                &["net/ipv4/conf.eth0.arp_notify", "net/ipv4/conf/eth0/arp_notify"],
            ),
            ("net.IFNAME.IFNAME", "eth0", &["net/eth0/IFNAME"]),
        ] {
            let sysctl = Sysctl { key: key.into(), value: String::new() };
            assert_eq!(sysctl.places(ifname).unwrap(), wanted, "{key}");
        }
        for key in [
            "",
            "net",
            "net.",
            "kernel.hostname",
            "/net/core/somaxconn",
            "net/../kernel/hostname",
            "net/ipv4/../../kernel/hostname",
            "net//core",
            "network.x",
            "net.core\0.x",
            "IFNAME.x",
            "net/core/",
        ] {
            let sysctl = Sysctl { key: key.into(), value: String::new() };
            let error = sysctl.places("eth0").unwrap_err();
            assert_eq!(error.msg, format!("invalid net sysctl key: {key:?}"));
        }
    }
}
