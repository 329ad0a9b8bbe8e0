//! What nf_tables has: tables, chains, verdicts.

use super::buffer::{Buffer, text_of, u32_of};
use super::uapi::{NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE};

/// An address family (`NFPROTO_*` in `linux/netfilter.h`). It says which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// ARP.
    Arp = 3,
    /// Frames of one device.
    Netdev = 5,
    /// Frames that a bridge forwards.
    Bridge = 7,
    /// IPv6.
    Ip6 = 10,
}

impl Family {
    /// As in rules: `inet`, `ip`, …
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Arp => "arp",
            Self::Netdev => "netdev",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        }
    }

    pub(super) const fn number(self) -> u8 {
        self as u8
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::Inet, Self::Ip, Self::Arp, Self::Netdev, Self::Bridge, Self::Ip6]
            .into_iter()
            .find(|family| family.number() == number)
    }
}

/// A table's identity: `Table::new(Family::Inet, "heddle")`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Table<'a> {
    /// Which packets it sees.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Table<'a> {
    /// Names a table.
    pub const fn new(family: Family, name: &'a str) -> Self {
        Self { family, name }
    }

    /// Begins a rule for this table's family.
    pub fn rule(&self) -> super::Rule {
        super::Rule::new(self.family)
    }
}

/// What a base chain may do (`NFTA_CHAIN_TYPE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept and drop.
    Filter,
    /// Translate addresses; sees the first packet of each connection.
    Nat,
    /// Route again after a change.
    Route,
}

impl ChainKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Filter, Self::Nat, Self::Route].into_iter().find(|kind| kind.name() == name)
    }
}

/// Where a base chain sees packets (`NF_INET_*`, and alike for bridges; `NFTA_HOOK_HOOKNUM`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the hooks' usual names")]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

impl Hook {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting]
            .into_iter()
            .find(|hook| *hook as u32 == number)
    }
}

/// Priorities by name (nft(8)). Lower ones see a packet first.
pub mod priority {
    /// `raw`: before connection tracking. In bridge tables this number is `dstnat`.
    pub const RAW: i32 = -300;
    /// `mangle`.
    pub const MANGLE: i32 = -150;
    /// `dstnat`.
    pub const DSTNAT: i32 = -100;
    /// `filter`.
    pub const FILTER: i32 = 0;
    /// `security`.
    pub const SECURITY: i32 = 50;
    /// `srcnat`.
    pub const SRCNAT: i32 = 100;
    /// In bridge tables: `dstnat`.
    pub const BRIDGE_DSTNAT: i32 = -300;
    /// In bridge tables: `filter`.
    pub const BRIDGE_FILTER: i32 = -200;
}

/// What becomes of a packet on which no rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are what they say")]
pub enum Policy {
    Drop = 0,
    Accept = 1,
}

/// How a chain hangs in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// What it may do.
    pub kind: ChainKind,
    /// Where it sees packets.
    pub hook: Hook,
    /// When, among the chains of that hook; see [`priority`].
    pub priority: i32,
    /// `None`: the kernel's default, which is to accept; that of an existing chain stays.
    pub policy: Option<Policy>,
}

/// A chain to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    /// Its name.
    pub name: &'a str,
    /// Without: a chain to jump to.
    pub base: Option<Base>,
    /// At most [`super::COMMENT_MAX`] bytes.
    pub comment: Option<&'a str>,
}

impl<'a> Chain<'a> {
    /// A chain to jump to.
    pub const fn new(name: &'a str) -> Self {
        Self { name, base: None, comment: None }
    }

    /// A chain that the kernel sends packets to; it accepts what no rule decides on.
    pub const fn base(name: &'a str, kind: ChainKind, hook: Hook, priority: i32) -> Self {
        let base = Base { kind, hook, priority, policy: None };
        Self { name, base: Some(base), comment: None }
    }

    /// With a policy. A chain to jump to has none.
    #[must_use]
    pub const fn with_policy(mut self, policy: Policy) -> Self {
        if let Some(base) = &mut self.base {
            base.policy = Some(policy);
        }
        self
    }
}

/// What a rule decides (`NFTA_DATA_VERDICT`: `NFTA_VERDICT_CODE`, `NFTA_VERDICT_CHAIN`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet goes on to the next base chain.
    Accept,
    /// The packet ends here.
    Drop,
    /// The next rule decides.
    Continue,
    /// Back to where the jump came from.
    Return,
    /// Go through a chain, and come back.
    Jump(Box<str>),
    /// Go through a chain, and come back to where this chain would have.
    Goto(Box<str>),
}

impl Verdict {
    fn parts(&self) -> (i32, Option<&str>) {
        match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Continue => (-1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5, None),
        }
    }

    /// Writes the content of `NFTA_DATA_VERDICT`.
    pub(super) fn encode(&self, to: &mut Buffer) {
        let (code, chain) = self.parts();
        to.u32(NFTA_VERDICT_CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            to.name(NFTA_VERDICT_CHAIN, chain);
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let chain = || text_of(bytes, NFTA_VERDICT_CHAIN).map(String::into_boxed_str);
        Some(match u32_of(bytes, NFTA_VERDICT_CODE)?.cast_signed() {
            0 => Self::Drop,
            1 => Self::Accept,
            -1 => Self::Continue,
            -3 => Self::Jump(chain()?),
            -4 => Self::Goto(chain()?),
            -5 => Self::Return,
            _ => return None,
        })
    }
}
