//! nf_tables: packet filter rules, written and read over netlink, without the program `nft`.
//!
//! ```no_run
//! use netns_tools::nftables::{Batch, Chain, ChainKind, Family, Hook, Nftables, Table, priority};
//!
//! const TABLE: Table<'static> = Table::new(Family::Inet, "demo");
//! let mut batch = Batch::new();
//! batch.add_table(TABLE);
//! batch.add_chain(TABLE, &Chain::base("post", ChainKind::Nat, Hook::Postrouting, priority::SRCNAT));
//! let pod: std::net::IpAddr = "10.1.0.2".parse()?;
//! batch.add_rule(TABLE, "post", &TABLE.rule().saddr_eq(pod).masquerade().comment("a pod"));
//! let mut nft = Nftables::open()?;
//! nft.commit(&batch)?;
//! for rule in nft.rules(TABLE, Some("post"))? {
//!     println!("{} {:?}", rule.handle, rule.comment);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `object` | tables, chains, verdicts |
//! | `rule`, `expr` | rules, and the kernel's expressions that they are made of |
//! | `set`, `value` | sets, maps, their elements; keys and registers |
//! | `batch` | changes, made together or not at all |
//! | `listed` | what the kernel tells |
//! | `monitor` | that somebody changed rules |
//! | `buffer`, `uapi` | attributes, and the kernel's numbers |
//!
//! The numbers are those of `linux/netfilter/nf_tables.h`; how batches work is told in the kernel's
//! `net/netfilter/nfnetlink.c`. Comments have the form of libnftables, so that `nft list ruleset` prints them.

mod batch;
mod buffer;
mod error;
mod expr;
mod listed;
mod monitor;
mod object;
mod rule;
mod set;
mod shown;
mod uapi;
mod value;

use netlink_packet_core::NetlinkSerializable;
use netlink_sys::protocols::NETLINK_NETFILTER;

pub use self::batch::Batch;
use self::batch::family_header;
use self::buffer::Buffer;
pub use self::error::NftError;
pub use self::expr::{
    Ct, DynsetOp, Expr, FibFlags, FibResult, Header, Meta, NatFlags, NatKind, Op, Reg, RegRange,
    Reject,
};
pub use self::listed::{ListedChain, ListedElement, ListedRule, ListedSet, ListedTable};
pub use self::monitor::Monitor;
pub use self::object::{Base, Chain, ChainKind, Family, Hook, Policy, Table, Verdict, priority};
pub use self::rule::{Field, Rule, Transport, ct_state, ct_status};
pub use self::set::{Data, Element, MapOf, Set, Type};
use self::uapi::{
    NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN, NFT_MSG_GETGEN, NFT_MSG_GETRULE, NFT_MSG_GETSET,
    NFT_MSG_GETSETELEM, NFT_MSG_GETTABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_CHAIN,
    NFTA_RULE_TABLE, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE,
    NFTA_SET_TABLE, NFTA_TABLE_NAME,
};
pub use self::value::{Bytes, Key, Value};
use crate::netlink::KernelSocket;
use crate::netlink::exchange::{Exchange, Failure, Wire};
use crate::netlink::reply::{Malformed, Refusal, refusals};
use crate::netns::NetNs;

/// The longest comment, in bytes: what nft prints.
pub const COMMENT_MAX: usize = 128;

/// Results of this module.
pub type Result<T> = std::result::Result<T, NftError>;

/// `AF_UNSPEC`: objects of every family.
const ANY_FAMILY: u8 = 0;
/// The kernel's way to say that a batch's generation is past (`include/linux/errno.h`); programs are not meant to see it elsewhere.
const ERESTART: i32 = 85;

/// A netlink socket for nf_tables. It belongs to the namespace that it was opened in and can be used from any thread.
///
/// With it go the tables that it owns ([`Batch::add_owned_table`]).
pub struct Nftables {
    exchange: Exchange<KernelSocket>,
}

impl std::fmt::Debug for Nftables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nftables").finish_non_exhaustive()
    }
}

impl Nftables {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let wire = KernelSocket::open(NETLINK_NETFILTER).map_err(|source| NftError::Socket {
            operation: "use nf_tables".to_owned(),
            step: "open a netlink socket",
            source,
        })?;
        Ok(Self { exchange: Exchange::new(wire) })
    }

    /// Opens a socket in `ns`. The calling thread does not leave its own namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        ns.visit(Self::open)?
    }

    /// Makes the changes of a batch, all or none of them. An empty one is not sent.
    pub fn commit(&mut self, batch: &Batch) -> Result<()> {
        if let Some((what, reason)) = batch.invalid() {
            return Err(NftError::Invalid { what: what.clone(), reason });
        }
        if batch.is_empty() { Ok(()) } else { commit(self.exchange.wire(), batch) }
    }

    /// The number of the rules' current state: it grows with every commit, of whomever. It also tells whether nf_tables can be
    /// used at all.
    pub fn generation(&mut self) -> Result<u32> {
        self.get(
            "read the generation of nf_tables",
            query(NFT_MSG_GETGEN, ANY_FAMILY, |_| {}),
            listed::generation,
        )
    }

    /// Every table.
    pub fn tables(&mut self) -> Result<Vec<ListedTable>> {
        self.list("list tables", query(NFT_MSG_GETTABLE, ANY_FAMILY, |_| {}), listed::table)
    }

    /// Whether a table is there.
    pub fn has_table(&mut self, table: Table<'_>) -> Result<bool> {
        let query = query(NFT_MSG_GETTABLE, table.family.number(), |to| {
            to.name(NFTA_TABLE_NAME, table.name);
        });
        self.has("look for a table", query)
    }

    /// Whether a chain is there.
    pub fn has_chain(&mut self, table: Table<'_>, chain: &str) -> Result<bool> {
        let query = query(NFT_MSG_GETCHAIN, table.family.number(), |to| {
            to.name(NFTA_CHAIN_TABLE, table.name);
            to.name(NFTA_CHAIN_NAME, chain);
        });
        self.has("look for a chain", query)
    }

    /// A chain; `None` if it is not there.
    pub fn chain(&mut self, table: Table<'_>, chain: &str) -> Result<Option<ListedChain>> {
        let query = query(NFT_MSG_GETCHAIN, table.family.number(), |to| {
            to.name(NFTA_CHAIN_TABLE, table.name);
            to.name(NFTA_CHAIN_NAME, chain);
        });
        let read = |bytes: &[u8]| listed::chain(bytes, table);
        match self.get("look at a chain", query, read) {
            Err(error) if error.is_not_found() => Ok(None),
            found => found,
        }
    }

    /// The chains of a table; none if the table is not there.
    pub fn chains(&mut self, table: Table<'_>) -> Result<Vec<ListedChain>> {
        let query = query(NFT_MSG_GETCHAIN, table.family.number(), |_| {});
        self.list("list chains", query, |bytes| listed::chain(bytes, table))
    }

    /// The rules of a chain, or of every chain of a table; none if they are not there.
    pub fn rules(&mut self, table: Table<'_>, chain: Option<&str>) -> Result<Vec<ListedRule>> {
        let query = query(NFT_MSG_GETRULE, table.family.number(), |to| {
            to.name(NFTA_RULE_TABLE, table.name);
            if let Some(chain) = chain {
                to.name(NFTA_RULE_CHAIN, chain);
            }
        });
        let rules = self.list("list rules", query, |bytes| listed::rule(bytes, table))?;
        // Kernels before 3.19 list everything.
        let wanted = |rule: &ListedRule| chain.is_none_or(|chain| chain == rule.chain);
        Ok(rules.into_iter().filter(wanted).collect())
    }

    /// The sets and maps of a table; none if the table is not there.
    pub fn sets(&mut self, table: Table<'_>) -> Result<Vec<ListedSet>> {
        let query = query(NFT_MSG_GETSET, table.family.number(), |to| {
            to.name(NFTA_SET_TABLE, table.name);
        });
        let listed = self.list("list sets", query, |bytes| listed::set(bytes, table));
        none_if_not_found(listed)
    }

    /// The elements of a set or map; none if it is not there.
    pub fn elements(&mut self, table: Table<'_>, set: &str) -> Result<Vec<ListedElement>> {
        Ok(self.elements_by(table, set, |elements| elements)?.into_iter().flatten().collect())
    }

    /// What `read` makes of the elements of a set or map, so many at a time as the kernel tells at once: for sets of which not all
    /// elements need be in memory. None if it is not there.
    pub fn elements_by<T>(
        &mut self,
        table: Table<'_>,
        set: &str,
        read: impl Fn(Vec<ListedElement>) -> T,
    ) -> Result<Vec<T>> {
        let query = elements_query(table, set);
        let listed = self.list("list the elements of a set", query, |bytes| {
            Ok(listed::elements(bytes)?.map(&read))
        });
        none_if_not_found(listed)
    }

    /// Whether a set or map has an element with the key of this one; also false if there is no such set.
    pub fn has_element(&mut self, table: Table<'_>, set: &str, element: &Element) -> Result<bool> {
        let query = query(NFT_MSG_GETSETELEM, table.family.number(), |to| {
            to.name(NFTA_SET_ELEM_LIST_TABLE, table.name);
            to.name(NFTA_SET_ELEM_LIST_SET, set);
            to.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |to| element.encode(to));
        });
        self.has("look for an element", query)
    }

    fn get<T>(
        &mut self,
        operation: &str,
        query: Result<Query>,
        read: impl Fn(&[u8]) -> std::result::Result<T, Malformed>,
    ) -> Result<T> {
        self.exchange.one(query?, read).map_err(|failure| NftError::new(operation, failure))
    }

    fn has(&mut self, operation: &str, query: Result<Query>) -> Result<bool> {
        match self.get(operation, query, |_| Ok(())) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list<T>(
        &mut self,
        operation: &str,
        query: Result<Query>,
        read: impl Fn(&[u8]) -> std::result::Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>> {
        self.exchange.list(query?, read).map_err(|failure| NftError::new(operation, failure))
    }
}

fn elements_query(table: Table<'_>, set: &str) -> Result<Query> {
    query(NFT_MSG_GETSETELEM, table.family.number(), |to| {
        to.name(NFTA_SET_ELEM_LIST_TABLE, table.name);
        to.name(NFTA_SET_ELEM_LIST_SET, set);
    })
}

fn none_if_not_found<T>(listed: Result<Vec<T>>) -> Result<Vec<T>> {
    match listed {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        listed => listed,
    }
}

/// A request to read.
struct Query {
    kind: u16,
    payload: Vec<u8>,
}

fn query(kind: u16, family: u8, body: impl FnOnce(&mut Buffer)) -> Result<Query> {
    let mut buffer = Buffer::default();
    buffer.bytes.extend_from_slice(&family_header(family, 0));
    body(&mut buffer);
    match buffer.invalid {
        Some((what, reason)) => Err(NftError::Invalid { what, reason }),
        None => Ok(Query { kind: NFNL_SUBSYS_NFTABLES << 8 | kind, payload: buffer.bytes }),
    }
}

impl NetlinkSerializable for Query {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.payload.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..self.payload.len()].copy_from_slice(&self.payload);
    }
}

/// Sends a batch and reads what became of it.
///
/// The kernel has done everything when the call to send returns (`netlink_unicast_kernel` in `net/netlink/af_netlink.c`); all
/// its answers are then queued: refusals, in the order of the changes, and the acknowledgement of the last change. That a
/// transaction failed as a whole is told as a refusal too. So nothing is waited for.
fn commit(wire: &mut impl Wire, batch: &Batch) -> Result<()> {
    const OPERATION: &str = "change packet filter rules";
    let socket = |step, source| NftError::new(OPERATION, Failure::Socket { step, source });
    let mut buffer = Vec::new();
    // What an earlier request left unread.
    while receive(wire, &mut buffer).map_err(|e| socket("receive the answer", e))?.is_some() {}
    wire.send(batch.bytes()).map_err(|e| socket("send the changes", e))?;
    let (mut refused, mut acknowledged) = (None, false);
    while let Some(lost) =
        receive(wire, &mut buffer).map_err(|e| socket("receive the answer", e))?
    {
        if lost {
            continue;
        }
        for answer in refusals(&buffer) {
            let (sequence, verdict) = answer.map_err(|e| NftError::malformed(OPERATION, e))?;
            match verdict {
                Some(refusal) if refused.is_none() => refused = Some((sequence, refusal)),
                Some(_) => {}
                None => acknowledged |= sequence == batch.last_sequence(),
            }
        }
    }
    match refused {
        Some((_, Refusal { errno: ERESTART, .. })) => Err(NftError::Changed),
        Some((sequence, refusal)) => {
            let (operation, culprit) = batch.describe(sequence, refusal.offset);
            Err(NftError::Refused { operation, errno: refusal.errno, text: refusal.text, culprit })
        }
        None if acknowledged => Ok(()),
        None => Err(socket("receive the answer", std::io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The next datagram that is there already; `true`: some were lost. `None`: there are no more.
fn receive(wire: &mut impl Wire, buffer: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    buffer.clear();
    buffer.reserve(ANSWER);
    match wire.receive(buffer, false) {
        Ok(_) => Ok(Some(false)),
        Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(Some(true)),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e),
    }
}

/// Refusals are short, also where the kernel quotes a request.
const ANSWER: usize = 16 * 1024;

#[cfg(test)]
mod tests;
