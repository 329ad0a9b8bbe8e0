//! Makes a veth pair with an address and a route in the current namespace by this crate's blocking socket, and deletes it
//! unless called with `--keep`.
//!
//! One of the programs that `netlink_compare` times. With `--rss`, prints its `/proc/self/status` at the end.

use std::error::Error;

use netns_tools::{Netlink, Route, Veth};

fn main() -> Result<(), Box<dyn Error>> {
    let mut netlink = Netlink::open()?;
    netlink.add_veth(&Veth::new("cmp0", "cmp1"))?;
    let index = netlink.link("cmp0")?.ok_or("the pair is gone")?.index;
    netlink.set_up(index)?;
    netlink.add_address(index, "10.9.8.1/24".parse()?)?;
    netlink.add_route(&Route {
        dst: "10.9.9.0/24".parse()?,
        gateway: Some("10.9.8.2".parse()?),
        ..Route::default()
    })?;
    let flag = |name| std::env::args().any(|arg| arg == name);
    if !flag("--keep") {
        netlink.delete_link(index)?;
    }
    if flag("--rss") {
        print!("{}", std::fs::read_to_string("/proc/self/status")?);
    }
    Ok(())
}
