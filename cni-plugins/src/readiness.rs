//! STATUS: what an ADD needs of the host, asked in milliseconds and without changing anything.

use cni::{Error, ErrorCode};
use netns_tools::iptables::{Family, Iptables, Rules};
use netns_tools::nftables::Nftables;
use netns_tools::sysctl;

use crate::masquerade::{self, Backend};

/// The chain that jumps to services, of kube-proxy and of our own proxy alike.
const SERVICES: &str = "KUBE-SERVICES";

/// The code for "ADD cannot be served".
pub fn not_available(msg: impl Into<String>, details: impl Into<String>) -> Error {
    Error::new(ErrorCode::NotAvailable, msg).with_details(details)
}

/// Whatever keeps ADD from being served has this code in the answer to STATUS.
pub fn unavailable(error: Error) -> Error {
    Error { code: ErrorCode::NotAvailable, ..error }
}

/// `ipMasq` needs a packet filter; which families is not known before there is an address, so IPv4 counts.
pub fn check_masquerading(backend: Backend) -> Result<(), Error> {
    let nftables = || {
        let mut nft = Nftables::open()?;
        nft.generation().map(drop)
    };
    match backend {
        Backend::Nftables => nftables().map_err(|error| cannot_masquerade(&error)),
        Backend::Iptables => check_iptables(),
        Backend::Auto => check_iptables().or_else(|error| nftables().map_err(|_| error)),
    }
}

fn check_iptables() -> Result<(), Error> {
    match Iptables::detect(Family::V4) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(unavailable(masquerade::missing_iptables(Family::V4))),
        Err(error) => Err(cannot_masquerade(&error)),
    }
}

fn cannot_masquerade(error: &dyn std::error::Error) -> Error {
    let cause = Error::from_source(ErrorCode::NotAvailable, error);
    not_available(format!("cannot set up ipMasq: {}", cause.msg), cause.details)
}

/// Two containers on one bridge do not reach each other through a service unless bridged packets pass iptables: the answer
/// would come straight back from an address that nobody asked. It matters only where there are services.
pub fn check_bridged_services() -> Result<(), Error> {
    for (family, key) in [
        (Family::V4, "net/bridge/bridge-nf-call-iptables"),
        (Family::V6, "net/bridge/bridge-nf-call-ip6tables"),
    ] {
        let is_on = sysctl::read(key).is_ok_and(|value| value == "1");
        if is_on || !has_services(family) {
            continue;
        }
        let msg = "containers on this bridge cannot reach each other through services: bridged packets bypass iptables";
        let details =
            format!("load the module br_netfilter (`modprobe br_netfilter`) and set {key} to 1");
        return Err(Error::new(ErrorCode::LimitedConnectivity, msg).with_details(details));
    }
    Ok(())
}

/// Without rules that can be read there are no services that could be missed.
fn has_services(family: Family) -> bool {
    let Ok(Some(mut rules)) = Iptables::detect(family) else { return false };
    rules.save("nat").is_ok_and(|table| table.chains.contains_key(SERVICES))
}
