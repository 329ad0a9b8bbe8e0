//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet (EUI-48) address, printed as `02:00:0a:f4:00:01`. Read with `:` or `-` between the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Whether the address can be given to a link: neither a group address nor all zeros
    /// (the kernel's `is_valid_ether_addr`).
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl From<[u8; 6]> for MacAddr {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

/// The text is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a MAC address; expected six bytes such as 02:00:0a:f4:00:01")]
pub struct ParseMacError {
    /// The text as given.
    pub text: String,
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseMacError { text: text.into() };
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(wrong)?;
            // from_str_radix alone would take "+f".
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = ParseMacError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, printed) in
            [("02:00:0a:f4:00:01", "02:00:0a:f4:00:01"), ("AA-BB-CC-DD-EE-FF", "aa:bb:cc:dd:ee:ff")]
        {
            let mac: MacAddr = text.parse().unwrap();
            assert_eq!(mac.to_string(), printed);
            let json = serde_json::to_string(&mac).unwrap();
            assert_eq!(json, format!("\"{printed}\""));
            assert_eq!(serde_json::from_str::<MacAddr>(&json).unwrap(), mac);
        }
    }

    #[test]
    fn refuses_what_is_not_a_mac() {
        for text in [
            "",
            "02",
            "02:00:0a:f4:00",
            "02:00:0a:f4:00:01:02",
            "02:00:0a:f4:00:1",
            "+2:00:0a:f4:00:01",
            "02:00-0a:f4:00:01",
            "0g:00:0a:f4:00:01",
            "02:00:0a:f4:00:01 ",
            "02000af40001",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacError { text: text.into() }));
        }
    }

    #[test]
    fn unicast_only() {
        let unicast = |text: &str| text.parse::<MacAddr>().unwrap().is_unicast();
        assert!(unicast("02:00:00:00:00:01"));
        assert!(!unicast("01:00:5e:00:00:01"));
        assert!(!unicast("ff:ff:ff:ff:ff:ff"));
        assert!(!unicast("00:00:00:00:00:00"));
    }
}
