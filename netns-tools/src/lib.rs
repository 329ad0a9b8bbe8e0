//! Network namespaces, links, addresses, routes, sysctls, iptables and nftables: the only crate that touches the kernel's network.
//!
//! Everything is synchronous: a request to the kernel is answered in microseconds, and a plugin that makes a handful of
//! them and ends has nothing to overlap. From asynchronous code, call it on a blocking thread.
//!
//! ```no_run
//! use netns_tools::{NetNs, Netlink, Veth};
//!
//! let sandbox = NetNs::create("demo")?;
//! let mut host = Netlink::open()?;
//! host.add_veth(&Veth { peer_ns: Some(&sandbox), ..Veth::new("demo0", "eth0") })?;
//! // A socket belongs to the namespace it was opened in, and can be used from anywhere.
//! let mut inside = Netlink::open_in(&sandbox)?;
//! let eth0 = inside.link("eth0")?.expect("it was just made");
//! inside.add_address(eth0.index, "10.0.0.2/24".parse()?)?;
//! inside.set_up(eth0.index)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod address;
pub mod announce;
pub mod cause;
pub mod complete_checksum;
pub mod conntrack;
pub mod fdb;
pub mod iptables;
pub mod link;
pub mod mac;
pub mod monitor;
pub mod neighbour;
pub mod netlink;
pub mod netns;
pub mod nexthop;
pub mod nfacct;
pub mod nftables;
pub mod overview;
pub mod packet;
pub mod probe_socket;
pub mod qdisc;
pub mod route;
pub mod rule;
pub mod selinux;
pub mod sysctl;
pub mod testing;
pub mod too_large;

pub use address::Address;
pub use conntrack::Conntrack;
pub use fdb::FdbEntry;
pub use link::bridge::Bridge;
pub use link::ipvlan::IpvlanMode;
pub use link::macvlan::{Macvlan, MacvlanMode};
pub use link::new::NewLink;
pub use link::port_vlan::PortVlan;
pub use link::tap::Tap;
pub use link::veth::Veth;
pub use link::vrf::Vrf;
pub use link::vxlan::Vxlan;
pub use link::{Link, OperState};
pub use mac::MacAddr;
pub use monitor::Monitor;
pub use neighbour::{Neighbour, PermanentNeighbour};
pub use netlink::batch::{Change, Object};
pub use netlink::{Netlink, NetlinkError};
pub use netns::{NamedNetns, NetNs, NetnsError, NetnsId};
pub use nexthop::Nexthop;
pub use packet::{PacketError, PacketSocket};
pub use route::{Route, RouteKind, RoutesOf};
pub use rule::Rule;
