//! What is compared: the paths of packets, how pods are attached, and who built it.

use std::fmt;

/// Where the other pod is, and how packets get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// On the same node.
    Same,
    /// On another node of the same link, by a plain route.
    Direct,
    /// On another node, in UDP (RFC 7348).
    Vxlan,
}

impl Path {
    /// In the order of the table.
    pub const ALL: [Self; 3] = [Self::Same, Self::Direct, Self::Vxlan];

    /// As arguments and configurations name it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Direct => "host-gw",
            Self::Vxlan => "vxlan",
        }
    }

    /// By its word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.word() == word)
    }

    /// The pods' MTU: VXLAN over IPv4 adds 50 bytes to each packet.
    pub const fn mtu(self) -> u32 {
        match self {
            Self::Same | Self::Direct => 1500,
            Self::Vxlan => 1450,
        }
    }
}

/// How pods are attached to their node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Ports of a bridge, which is their gateway.
    Bridge,
    /// Each by a link of its own, routed.
    Ptp,
}

impl Attachment {
    /// In the order of the table.
    pub const ALL: [Self; 2] = [Self::Bridge, Self::Ptp];

    /// The plugin's name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Ptp => "ptp",
        }
    }
}

/// Who built it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// `ip` commands, and nothing else: neither rules nor connection tracking; a bridge does not show packets to iptables.
    Bare,
    /// `ip` commands, with the rules that a node needs, written by hand.
    Hand,
    /// Pods by the plugins; routes, tunnel and rules by the program, or by hand while there is none.
    Heddle,
}

impl Builder {
    /// In the order in which they take turns.
    pub const ALL: [Self; 3] = [Self::Bare, Self::Hand, Self::Heddle];

    const fn word(self) -> &'static str {
        match self {
            Self::Bare => "by hand, no rules",
            Self::Hand => "by hand",
            Self::Heddle => "heddle",
        }
    }
}

/// One of the topologies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How packets travel.
    pub path: Path,
    /// How pods are attached.
    pub attachment: Attachment,
    /// Who built it.
    pub builder: Builder,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.path {
            Path::Same => "same node",
            Path::Direct => "other node, direct",
            Path::Vxlan => "other node, VXLAN",
        };
        write!(f, "{path}, {}, {}", self.attachment.word(), self.builder.word())
    }
}
