//! Links on a parent: what `macvlan`, `ipvlan`, `vlan` and `dummy` share. A plugin says what its configuration means, as a
//! [`Sublink`]; the rest is here.
//!
//! | file | what |
//! | --- | --- |
//! | `kind` | the kinds of links |
//! | `parent` | which link to make it on, and what that allows |
//! | `plan` | pure decisions: the temporary name, the result |
//! | `apply` | ADD, with an undo stack |
//! | `check` | CHECK: what ADD said against what the kernel says |
//! | `teardown` | DEL and GC, which need nothing of the configuration but the IPAM plugin's name |
//! | `status` | STATUS |
//! | `plugin` | what of these answers which command |

mod apply;
mod check;
mod kind;
mod parent;
mod plan;
mod plugin;
mod status;
mod teardown;

use cni::{CniResult, Error, ErrorCode, PluginConf};
use netns_tools::{MacAddr, link};

pub use self::kind::Kind;
pub use self::plugin::SublinkPlugin;

/// What a configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sublink {
    /// The kind of link.
    pub kind: Kind,
    /// What it is made on.
    pub master: Master,
    /// The master is in the container's namespace and not on the host.
    pub in_container: bool,
    /// `mtu` as it was given: what it may be depends on the master.
    pub mtu: i64,
    /// The interface's MAC address; `None`: the kernel chooses.
    pub mac: Option<MacAddr>,
    /// Where its addresses come from.
    pub addresses: Addresses,
}

/// The link to make it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Master {
    /// There is none.
    None,
    /// The link of this name.
    Named(String),
    /// The link that the default route leaves by.
    DefaultRoute,
    /// ADD takes it from the plugin before it in the chain; it is not known otherwise.
    Chain,
}

/// Where the interface's addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// It has none: layer 2 only.
    None,
    /// The IPAM plugin of this type.
    Ipam(String),
    /// The plugin before it in the chain.
    Given(Box<CniResult>),
}

impl Master {
    /// Reads `master`; without it, the default route's link.
    pub fn parse(keys: &PluginConf) -> Result<Self, Error> {
        let Some(name) = keys.text("master")? else { return Ok(Self::DefaultRoute) };
        Self::named(name)
    }

    /// The link of this name.
    pub fn named(name: String) -> Result<Self, Error> {
        match link::check_name(&name) {
            Ok(()) => Ok(Self::Named(name)),
            Err(error) => {
                let msg = format!("master {name:?} cannot be the name of an interface");
                Err(invalid(&msg).with_details(error.to_string()))
            }
        }
    }
}

/// A configuration error.
pub fn invalid(msg: &str) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
