//! One property of an interface: to be set, compared, and set back.

use cni::Error;
use netns_tools::{Link, MacAddr, Netlink};

use crate::interface::kernel_error;

/// A property and a value for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The Ethernet address.
    Mac(MacAddr),
    /// Takes in every frame.
    Promisc(bool),
    /// Maximum transmission unit, in bytes.
    Mtu(u32),
    /// Length of the transmit queue, in packets.
    TxQLen(u32),
    /// Takes in every multicast frame.
    Allmulti(bool),
}

impl Change {
    /// What a step that makes it is called.
    pub const fn step(self) -> &'static str {
        match self {
            Self::Mac(_) => "set the MAC address",
            Self::Promisc(_) => "set promiscuous mode",
            Self::Mtu(_) => "set the MTU",
            Self::TxQLen(_) => "set the transmit queue length",
            Self::Allmulti(_) => "set all-multicast mode",
        }
    }

    /// The same property with the value that `link` has now. `None`: it has none (a link without an Ethernet address).
    pub fn as_it_is(self, link: &Link) -> Option<Self> {
        Some(match self {
            Self::Mac(_) => Self::Mac(link.mac?),
            Self::Promisc(_) => Self::Promisc(link.promisc),
            Self::Mtu(_) => Self::Mtu(link.mtu),
            Self::TxQLen(_) => Self::TxQLen(link.txqlen),
            Self::Allmulti(_) => Self::Allmulti(link.allmulti),
        })
    }

    /// Whether both are about the same property.
    pub fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// Makes it, unless it is so already.
    pub fn make(self, net: &mut Netlink, link: &Link) -> Result<(), Error> {
        if self.as_it_is(link) == Some(self) {
            return Ok(());
        }
        let done = match self {
            Self::Mac(mac) => net.set_mac(link.index, mac),
            Self::Promisc(on) => net.set_promisc(link.index, on),
            Self::Mtu(mtu) => net.set_mtu(link.index, mtu),
            Self::TxQLen(packets) => net.set_txqlen(link.index, packets),
            Self::Allmulti(on) => net.set_allmulti(link.index, on),
        };
        done.map_err(|e| kernel_error(&format!("cannot {} of {:?}", self.step(), link.name), &e))
    }

    /// CHECK: what is different, in the reference's words.
    pub fn difference(self, link: &Link) -> Option<String> {
        let now = self.as_it_is(link);
        if now == Some(self) {
            return None;
        }
        let name = &link.name;
        Some(match (self, now) {
            (Self::Mac(mac), now) => {
                let now = match now {
                    Some(Self::Mac(now)) => now.to_string(),
                    _ => "none".to_owned(),
                };
                format!(
                    "Error: Tuning configured Ethernet of {name} is {mac}, current value is {now}"
                )
            }
            (Self::Promisc(on), _) => format!(
                "Error: Tuning link {name} configured promisc is {on}, current value is {}",
                link.promisc
            ),
            (Self::Mtu(mtu), _) => format!(
                "Error: Tuning configured MTU of {name} is {mtu}, current value is {}",
                link.mtu
            ),
            (Self::TxQLen(packets), _) => format!(
                "Error: Tuning configured Transmit Queue Length of {name} is {packets}, current value is {}",
                link.txqlen
            ),
            (Self::Allmulti(on), _) => format!(
                "Error: Tuning configured all-multicast mode of {name} is {on}, current value is {}",
                link.allmulti
            ),
        })
    }
}
