//! `macvlan`: a further MAC address on an interface of the host, in the container.
//!
//! What it shares with its like is in [`crate::sublink`]; here is what its configuration may say.

mod conf;

use crate::sublink::SublinkPlugin;

/// The `macvlan` plugin.
pub static PLUGIN: SublinkPlugin = SublinkPlugin {
    name: "macvlan",
    about: "a further MAC address on an interface of the host, in the container",
    parse: conf::parse,
};
