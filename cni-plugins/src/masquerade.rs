//! `ipMasq`: what leaves a container's network goes out under the host's address.
//!
//! There are two kinds of rules, as in the reference: of iptables, the default, and of nftables (`ipMasqBackend`), which also
//! serves where iptables cannot be used. Whoever removes rules looks for both: the setting may have changed since.

mod iptables;
mod nftables;

pub use iptables::missing as missing_iptables;

use cni::plugin::{Call, ValidAttachment};
use cni::{CniResult, Error, ErrorCode, PluginConf};
use ipnetwork::IpNetwork;

use crate::collect::first_with_others;
use crate::nft;

/// Which kind of rules to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// iptables where it can be used, else nftables.
    Auto,
    /// iptables.
    Iptables,
    /// nftables, over netlink: no program is needed.
    Nftables,
}

/// What `ipMasq` and `ipMasqBackend` ask for.
pub fn wanted(keys: &PluginConf) -> Result<Option<Backend>, Error> {
    if !keys.is_on("ipMasq")? {
        return Ok(None);
    }
    let name = keys.text("ipMasqBackend")?.unwrap_or_default();
    Ok(Some(match name.as_str() {
        "" => Backend::Auto,
        "iptables" => Backend::Iptables,
        "nftables" => Backend::Nftables,
        _ => {
            let msg = format!("unknown ipmasq backend {name:?}");
            let details = "ipMasqBackend is \"iptables\" or \"nftables\"; without it, what this host has is used";
            return Err(Error::new(ErrorCode::InvalidConfig, msg).with_details(details));
        }
    }))
}

/// The rules of one attachment.
pub struct Masquerade {
    iptables: iptables::Masquerade,
    nftables: nftables::Masquerade,
}

impl Masquerade {
    /// The rules of this call's attachment.
    pub fn of(call: &Call<'_>) -> Self {
        let (network, container_id) = (&call.conf.name, &call.container_id);
        Self {
            iptables: iptables::Masquerade::new(network, container_id),
            nftables: nftables::Masquerade::new(network, &call.ifname, container_id),
        }
    }

    /// Makes the rules for `addresses`.
    pub fn set_up(&self, backend: Backend, addresses: &[IpNetwork]) -> Result<(), Error> {
        let found = match backend {
            Backend::Nftables => return self.nftables.set_up(addresses),
            Backend::Iptables => iptables::Masquerade::look(addresses)?,
            Backend::Auto => match iptables::Masquerade::look(addresses) {
                Err(_) if nft::is_usable() => return self.nftables.set_up(addresses),
                found => found?,
            },
        };
        self.iptables.set_up(found)
    }

    /// Removes the rules for `addresses`, of both kinds. Without addresses (the container's interface is gone and nobody
    /// remembers) everything of the attachment goes.
    pub fn tear_down(&self, addresses: &[IpNetwork]) -> Result<(), Error> {
        both(self.nftables.tear_down(), self.iptables.tear_down(addresses))
    }

    /// CHECK: the difference, if the rules for what was promised are not there.
    pub fn check(
        call: &Call<'_>,
        backend: Option<Backend>,
        promised: &CniResult,
    ) -> Result<Option<String>, Error> {
        let Some(backend) = backend else { return Ok(None) };
        let addresses: Vec<_> = promised.ips.iter().map(|ip| ip.address).collect();
        let complete = Self::of(call).is_complete(backend, &addresses)?;
        Ok((!complete).then(|| "masquerading rules are missing".to_owned()))
    }

    /// Whether the rules for `addresses` are there, of either kind.
    fn is_complete(&self, backend: Backend, addresses: &[IpNetwork]) -> Result<bool, Error> {
        if backend != Backend::Iptables && self.nftables.is_complete(addresses)? {
            return Ok(true);
        }
        if backend == Backend::Nftables {
            return Ok(false);
        }
        match iptables::Masquerade::look(addresses) {
            Err(_) if backend == Backend::Auto => Ok(false),
            found => Ok(self.iptables.is_complete(&found?)),
        }
    }
}

/// GC: removes the rules of attachments to `network` that are not valid.
pub fn collect_garbage(network: &str, valid: &[ValidAttachment]) -> Result<(), Error> {
    let nftables = nftables::collect_garbage(network, valid);
    both(nftables, iptables::garbage::collect(network, valid))
}

/// Rules of nftables were found or not. Where they were, an iptables that cannot be used was not when they were made.
fn both(nftables: Result<bool, Error>, iptables: Result<(), Error>) -> Result<(), Error> {
    match nftables {
        Ok(true) => Ok(()),
        Ok(false) => iptables,
        Err(error) => first_with_others([iptables, Err(error)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_not_used_does_not_matter() {
        let error = |text: &str| Error::new(ErrorCode::Io, text);
        assert!(both(Ok(true), Err(error("no iptables"))).is_ok());
        assert!(both(Ok(false), Ok(())).is_ok());
        assert_eq!(both(Ok(false), Err(error("a"))).unwrap_err().msg, "a");
        assert_eq!(both(Err(error("b")), Ok(())).unwrap_err().msg, "b");
        let all = both(Err(error("b")), Err(error("a"))).unwrap_err();
        assert!(all.msg == "a" && all.details.contains('b'), "{all:?}");
    }
}
