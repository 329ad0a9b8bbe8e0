//! `dummy`: an interface without anything behind it.
//!
//! What it shares with its like is in [`crate::sublink`]; here is what its configuration may say.

mod conf;

use crate::sublink::SublinkPlugin;

/// The `dummy` plugin.
pub static PLUGIN: SublinkPlugin = SublinkPlugin {
    name: "dummy",
    about: "an interface without anything behind it",
    parse: conf::parse,
};
