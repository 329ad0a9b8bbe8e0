//! `heddle-cni`: every Heddle CNI plugin in one file. The name that it is called by picks the plugin.
#![no_main]

use std::ffi::{c_char, c_int};

/// The C library calls this instead of the standard library's `main`, which would first set up what a plugin has no use for
/// (see [`cni_plugins::start`]).
// SAFETY: no other function is named `main`, and this one has the signature that the C library expects.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    cni_plugins::start::prepare();
    // Also without its `main` the standard library knows the arguments: the C library gave them to it before.
    let code = cni_plugins::program::run(std::env::args_os());
    cni_plugins::start::finish();
    c_int::from(code)
}
