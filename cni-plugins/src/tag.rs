//! Which attachment a link of the host belongs to: a text that the link carries as its alias.
//!
//! `cni:<network>:<container>:<interface>`, as `ip link` shows it. Names of the protocol have no colon, so the text is
//! unambiguous. The kernel takes no alias in the message that makes a link (it ignores `IFLA_IFALIAS` there), so the text is
//! set right after, before the link is up, has an address or is a port. `bandwidth` marks its ifb, the others the host's end of
//! a veth pair. Whoever is killed in between leaves a pair that nothing
//! leads to, which DEL finds in the container and which goes with the container's namespace at the latest.
//!
//! What carries no such text, or another network's, is nobody's that we know of, and is never removed.

#[cfg(test)]
mod tests;

use cni::Error;
use cni::plugin::{Call, ValidAttachment};
use data_encoding::HEXLOWER;
use netns_tools::{Link, Netlink};
use sha2::{Digest, Sha512};

use crate::interface::kernel_error;

/// How every text begins.
const MARK: &str = "cni:";
/// Of what is longer, in bytes, a digest is taken, so that the text is one that the kernel takes. Identifiers are 64
/// characters long.
const LONGEST: usize = 100;

/// The text of an attachment.
pub fn of(network: &str, container_id: &str, ifname: &str) -> String {
    format!("{}{}:{ifname}", of_network(network), word(container_id))
}

/// The text of this call's attachment.
pub fn of_call(call: &Call<'_>) -> String {
    of(&call.conf.name, &call.container_id, &call.ifname)
}

/// How the text of every attachment of a network begins.
fn of_network(network: &str) -> String {
    format!("{MARK}{}:", word(network))
}

/// `#` is in no name of the protocol, so a digest is no other name.
pub(crate) fn word(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let mut digest = HEXLOWER.encode(&Sha512::digest(name));
    digest.truncate(32);
    format!("#{digest}")
}

/// Puts the text of this call's attachment onto a link.
pub fn put(net: &mut Netlink, call: &Call<'_>, link: &Link) -> Result<(), Error> {
    net.set_alias(link.index, &of_call(call))
        .map_err(|e| kernel_error(&format!("cannot mark {:?} as ours", link.name), &e))
}

/// Removes the veth pair of this call's attachment.
pub fn remove_own(net: &mut Netlink, call: &Call<'_>) -> Result<(), Error> {
    let own = of_call(call);
    remove(net, |link| link.alias.as_deref() == Some(&own))
}

/// GC: removes the veth pairs of attachments of this network that are not valid any more. (The specification rules out an ADD at
/// the same time: "The runtime must ensure that no add or delete operations are in progress before executing gc".)
pub fn collect_garbage(call: &Call<'_>) -> Result<(), Error> {
    let mut net = Netlink::open().map_err(|e| kernel_error("cannot open netlink", &e))?;
    remove(&mut net, |link| is_garbage(call, link))
}

/// Whether a link says that it is an attachment's of this network that is not valid any more.
pub fn is_garbage(call: &Call<'_>, link: &Link) -> bool {
    let is_stale = |tag: &str| is_stale(tag, &call.conf.name, &call.valid_attachments);
    link.alias.as_deref().is_some_and(is_stale)
}

/// Whether an alias is the text of an attachment of a network.
pub fn is_of_network(alias: &str, network: &str) -> bool {
    alias.starts_with(&of_network(network))
}

/// Whether an alias is such a text, whosoever.
pub fn is_tag(alias: &str) -> bool {
    alias.strip_prefix(MARK).is_some_and(|rest| rest.split(':').count() == 3)
}

fn is_stale(tag: &str, network: &str, valid: &[ValidAttachment]) -> bool {
    is_of_network(tag, network)
        && !valid.iter().any(|one| tag == of(network, &one.container_id, &one.ifname))
}

/// Each even if another fails; the first failure is returned.
fn remove(net: &mut Netlink, is_meant: impl Fn(&Link) -> bool) -> Result<(), Error> {
    let links = net.links().map_err(|e| kernel_error("cannot list the host's links", &e))?;
    let meant = links.iter().filter(|link| link.kind.as_deref() == Some("veth") && is_meant(link));
    let mut outcome = Ok(());
    for link in meant {
        match net.delete_link(link.index) {
            Err(error) if !error.is_not_found() => {
                let error = kernel_error(&format!("cannot remove {:?}", link.name), &error);
                outcome = outcome.and(Err(error));
            }
            _ => {}
        }
    }
    outcome
}
