//! `vlan`: the frames of one VLAN of an interface of the host, in the container.
//!
//! What it shares with its like is in [`crate::sublink`]; here is what its configuration may say.

mod conf;

use crate::sublink::SublinkPlugin;

/// The `vlan` plugin.
pub static PLUGIN: SublinkPlugin = SublinkPlugin {
    name: "vlan",
    about: "the frames of one VLAN of an interface of the host, in the container",
    parse: conf::parse,
};
