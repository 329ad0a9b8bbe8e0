//! The ifb of an attachment: its name, and whose it is.
//!
//! The name is the reference's, a hash of the network's name and the container's id, so that either suite finds what the other
//! made. A hash does not tell whose it is, though: the interface's name is not in it, and nothing leads back to the network. So
//! ours also have a [`tag`], which says it. The reference's have none.

use cni::plugin::Call;
use data_encoding::HEXLOWER;
use netns_tools::Link;
use sha2::{Digest, Sha512};

use crate::tag;

const PREFIX: &str = "bwp";
const NAME_LEN: usize = 15;

/// What the ifb of an attachment is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// The text that it carries.
    tag: String,
}

impl Device {
    /// The one of the attachment that a call is about.
    pub fn of(call: &Call<'_>) -> Self {
        Self::new(&call.conf.name, &call.container_id, &call.ifname)
    }

    fn new(network: &str, container_id: &str, ifname: &str) -> Self {
        let hash = Sha512::digest(format!("{network}{container_id}"));
        let mut name = format!("{PREFIX}{}", HEXLOWER.encode(&hash));
        name.truncate(NAME_LEN);
        Self { name, tag: tag::of(network, container_id, ifname) }
    }

    /// Whether an ifb of its name is the attachment's. Without a text of ours the name decides, as in the reference.
    pub fn is(&self, ifb: &Link) -> bool {
        let alias = ifb.alias.as_deref();
        alias.is_none_or(|alias| !tag::is_tag(alias) || alias == self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_reference_s() {
        // printf testnetaaa | sha512sum
        let device = Device::new("testnet", "aaa", "eth0");
        assert_eq!(device.name, "bwp42d74bb14ad4");
        assert_eq!(device.name.len(), NAME_LEN);
        assert_eq!(device.name, Device::new("testnet", "aaa", "net1").name);
    }

    #[test]
    fn the_alias_tells_whose_it_is() {
        let device = Device::new("net", "c1", "eth0");
        let with = |alias: &str| Link { alias: Some(alias.into()), ..Link::default() };
        assert_eq!(device.tag, "cni:net:c1:eth0");
        assert!(device.is(&with(&device.tag)));
        assert!(device.is(&Link::default()) && device.is(&with("written by hand")));
        for other in [("net", "c1", "net1"), ("netc", "1", "eth0"), ("net", "c2", "eth0")] {
            let other = Device::new(other.0, other.1, other.2);
            assert!(!device.is(&with(&other.tag)), "{other:?}");
        }
    }

    #[test]
    fn long_names_tell_it_too() {
        for (network, id) in [("n".repeat(240), "c".into()), ("net".into(), "c".repeat(300))] {
            let device = Device::new(&network, &id, "123456789012345");
            let with = |alias: &str| Link { alias: Some(alias.into()), ..Link::default() };
            assert!(device.is(&with(&device.tag)), "{device:?}");
            assert!(!Device::new(&network, &id, "x").is(&with(&device.tag)), "{device:?}");
        }
    }
}
