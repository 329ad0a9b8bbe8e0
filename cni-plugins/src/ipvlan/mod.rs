//! `ipvlan`: a link with the MAC address of an interface of the host and IP addresses of its own, in the container.
//!
//! What it shares with its like is in [`crate::sublink`]; here is what its configuration may say.

mod conf;

use crate::sublink::SublinkPlugin;

/// The `ipvlan` plugin.
pub static PLUGIN: SublinkPlugin = SublinkPlugin {
    name: "ipvlan",
    about: "a link with the MAC address of an interface of the host and IP addresses of its own, in the container",
    parse: conf::parse,
};
