//! The ifb of an attachment: its name, and whose it is.
//!
//! The name is the reference's, a hash of the network's name and the container's id, so that either suite finds what the other
//! made. A hash does not tell whose it is, though: the interface's name is not in it, and nothing leads back to the network. So
//! ours also have an alias, which says it. The reference's have none.

use cni::plugin::Call;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha512};

const PREFIX: &str = "bwp";
const NAME_LEN: usize = 15;
/// How the alias of an ifb of ours begins.
const MARK: &str = "heddle-bandwidth";
/// What the kernel takes for an alias (`IFALIASZ`), less the final zero byte.
const ALIAS_MAX: usize = 255;

/// Whose an ifb is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container_id: String,
    /// The interface in the container.
    pub ifname: String,
}

impl Owner {
    /// The attachment that a call is about.
    pub fn of(call: &Call<'_>) -> Self {
        Self::new(&call.conf.name, &call.container_id, &call.ifname)
    }

    /// An attachment.
    pub fn new(network: &str, container_id: &str, ifname: &str) -> Self {
        Self { network: network.into(), container_id: container_id.into(), ifname: ifname.into() }
    }

    /// The name of its ifb.
    pub fn device(&self) -> String {
        let hash = Sha512::digest(format!("{}{}", self.network, self.container_id));
        let mut name = format!("{PREFIX}{}", HEXLOWER.encode(&hash));
        name.truncate(NAME_LEN);
        name
    }

    /// The alias of its ifb: the three names, or where these are too long a hash of them.
    pub fn alias(&self) -> String {
        // None of the three can contain a space.
        let alias = format!("{MARK} {} {} {}", self.network, self.container_id, self.ifname);
        if alias.len() <= ALIAS_MAX {
            return alias;
        }
        let short = |text: &str| HEXLOWER.encode(&Sha512::digest(text)[..16]);
        format!("{MARK} #{} #{} {}", short(&self.network), short(&self.container_id), self.ifname)
    }

    /// Whether an ifb of its name with this alias is its. Without an alias of ours the name decides, as in the reference.
    pub fn owns(&self, alias: Option<&str>) -> bool {
        alias.is_none_or(|alias| !is_ours(alias) || alias == self.alias())
    }
}

/// Whether an alias is one that we give.
fn is_ours(alias: &str) -> bool {
    alias.split(' ').next() == Some(MARK)
}

/// Whether an alias says that the ifb is an attachment's of this network.
pub fn is_of_network(alias: &str, network: &str) -> bool {
    let any = Owner::new(network, "", "").alias();
    let long = Owner::new(network, &"x".repeat(ALIAS_MAX), "").alias();
    let place = |text: &str| text.split(' ').nth(1).map(str::to_owned);
    is_ours(alias) && (place(alias) == place(&any) || place(alias) == place(&long))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_reference_s() {
        // printf testnetaaa | sha512sum
        let owner = Owner::new("testnet", "aaa", "eth0");
        assert_eq!(owner.device(), "bwp42d74bb14ad4");
        assert_eq!(owner.device().len(), NAME_LEN);
        assert_eq!(owner.device(), Owner::new("testnet", "aaa", "net1").device());
    }

    #[test]
    fn the_alias_tells_whose_it_is() {
        let owner = Owner::new("net", "c1", "eth0");
        assert_eq!(owner.alias(), "heddle-bandwidth net c1 eth0");
        assert!(owner.owns(Some(&owner.alias())));
        assert!(owner.owns(None) && owner.owns(Some("written by hand")));
        for other in [
            Owner::new("net", "c1", "net1"),
            Owner::new("netc", "1", "eth0"),
            Owner::new("net", "c2", "eth0"),
        ] {
            assert!(!owner.owns(Some(&other.alias())), "{other:?}");
        }
        assert!(is_of_network(&owner.alias(), "net"));
        assert!(!is_of_network(&owner.alias(), "netc") && !is_of_network("net", "net"));
        assert!(!is_of_network("", "net") && !is_of_network("heddle-bandwidth", "net"));
    }

    #[test]
    fn long_names_fit() {
        for (network, id) in [("n".repeat(240), "c".into()), ("net".into(), "c".repeat(300))] {
            let owner = Owner::new(&network, &id, "123456789012345");
            let alias = owner.alias();
            assert!(alias.len() <= ALIAS_MAX, "{alias}");
            assert!(owner.owns(Some(&alias)) && is_of_network(&alias, &network), "{alias}");
            assert!(!is_of_network(&alias, "n"), "{alias}");
            assert!(!Owner { ifname: "x".into(), ..owner }.owns(Some(&alias)));
        }
    }
}
