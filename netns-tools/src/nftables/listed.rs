//! What the kernel tells of its tables, chains, rules, sets and elements.

use std::time::Duration;

use super::buffer::{comment_of, find, text_of, u32_of, u64_of};
use super::expr::Expr;
use super::object::{Base, ChainKind, Family, Hook, Policy, Table, Verdict};
use super::set::Data;
use super::uapi::{
    NFT_DATA_VERDICT, NFT_SET_ELEM_INTERVAL_END, NFT_SET_EVAL, NFT_SET_INTERVAL, NFT_SET_MAP,
    NFT_SET_TIMEOUT, NFTA_CHAIN_HANDLE, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY,
    NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_CHAIN_USE, NFTA_CHAIN_USERDATA, NFTA_DATA_VALUE,
    NFTA_DATA_VERDICT, NFTA_GEN_ID, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_LIST_ELEM,
    NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_HANDLE, NFTA_RULE_TABLE, NFTA_RULE_USERDATA,
    NFTA_SET_COUNT, NFTA_SET_DATA_TYPE, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_EXPIRATION,
    NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_LIST_ELEMENTS,
    NFTA_SET_ELEM_TIMEOUT, NFTA_SET_ELEM_USERDATA, NFTA_SET_FLAGS, NFTA_SET_HANDLE,
    NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE, NFTA_SET_NAME, NFTA_SET_TABLE, NFTA_SET_TIMEOUT,
    NFTA_SET_USERDATA, NFTA_TABLE_HANDLE, NFTA_TABLE_NAME, NFTA_TABLE_OWNER, NFTA_TABLE_USERDATA,
    NFTNL_UDATA_CHAIN_COMMENT, NFTNL_UDATA_RULE_COMMENT, NFTNL_UDATA_SET_COMMENT,
    NFTNL_UDATA_SET_ELEM_COMMENT, NFTNL_UDATA_TABLE_COMMENT,
};
use super::value::Key;
use crate::netlink::reply::{Malformed, attributes};

/// `struct nfgenmsg`, which every object begins with.
const HEADER: usize = 4;

type Result<T> = std::result::Result<T, Malformed>;

/// A table of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTable {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its number.
    pub handle: u64,
    /// The netlink port of the program that owns it.
    pub owner: Option<u32>,
    /// Its comment.
    pub comment: Option<String>,
}

impl ListedTable {
    /// Its identity.
    pub fn id(&self) -> Table<'_> {
        Table::new(self.family, &self.name)
    }
}

/// A chain of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedChain {
    /// Its table's name.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its number.
    pub handle: u64,
    /// How it hangs in the kernel. `None`: it is for jumps.
    pub base: Option<Base>,
    /// How many rules and elements it has or lead to it.
    pub uses: u32,
    /// Its comment.
    pub comment: Option<String>,
}

/// A rule of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRule {
    /// Its table's name.
    pub table: String,
    /// Its chain's name.
    pub chain: String,
    /// Its number, by which it is deleted.
    pub handle: u64,
    /// What it is made of.
    pub expressions: Vec<Expr>,
    /// Its comment.
    pub comment: Option<String>,
}

impl ListedRule {
    /// Whether it does the same as `rule`. Counters count as equal whatever they have counted.
    pub fn does(&self, rule: &super::Rule) -> bool {
        let is_counter = |e: &Expr| matches!(e, Expr::Counter { .. });
        self.expressions.len() == rule.expressions().len()
            && self
                .expressions
                .iter()
                .zip(rule.expressions())
                .all(|(own, other)| own == other || is_counter(own) && is_counter(other))
    }

    /// The chain that it jumps or goes to, if it does so by itself and not by a map.
    pub fn target(&self) -> Option<&str> {
        self.expressions.iter().find_map(|expression| match expression {
            Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(&**chain),
            _ => None,
        })
    }
}

/// A set or map of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties, as the kernel has them")]
pub struct ListedSet {
    /// Its table's name.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its number.
    pub handle: u64,
    /// The length of its keys in bytes.
    pub key_len: u32,
    /// nft's number for the type of its keys; six bits for each field.
    pub key_type: u32,
    /// `NFT_SET_*`, of which some are told apart here.
    pub flags: u32,
    /// nft's number for the type of a map's data.
    pub data_type: Option<u32>,
    /// It is a map.
    pub is_map: bool,
    /// It holds verdicts.
    pub is_verdict_map: bool,
    /// Its elements may be ranges.
    pub intervals: bool,
    /// Its elements may go by themselves.
    pub timeouts: bool,
    /// How long an element stays that says nothing about it. The kernel counts in ticks: it may be a little less than it was told.
    pub default_timeout: Option<Duration>,
    /// Rules change what is in it.
    pub dynamic: bool,
    /// How many elements it has; since Linux 6.16.
    pub count: Option<u32>,
    /// Its comment.
    pub comment: Option<String>,
}

/// An element of a set or map of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedElement {
    /// Its key, or the smallest of a range. The kernel does not say where the fields of a concatenated key are.
    pub key: Key,
    /// The largest of a concatenated range.
    pub to: Option<Key>,
    /// Not an element, but where the range of one field is over.
    pub ends_range: bool,
    /// What a map holds for it.
    pub data: Option<Data>,
    /// How long it was to stay.
    pub timeout: Option<Duration>,
    /// How long it will stay.
    pub expires: Option<Duration>,
    /// Its comment.
    pub comment: Option<String>,
}

/// The family and the attributes.
fn parts(bytes: &[u8]) -> Result<(Option<Family>, &[u8])> {
    match bytes {
        [family, _, _, _, body @ ..] => Ok((Family::from_number(*family), body)),
        _ => Err(Malformed(format!("{} bytes instead of {HEADER}", bytes.len()))),
    }
}

/// The attributes of an object of the table's family; `None`: of another.
fn body_in(bytes: &[u8], family: Family) -> Result<Option<&[u8]>> {
    let (found, body) = parts(bytes)?;
    Ok((found == Some(family)).then_some(body))
}

fn name_of(body: &[u8], kind: u16) -> Result<String> {
    text_of(body, kind).ok_or_else(|| Malformed("an object without a name".to_owned()))
}

fn handle_of(body: &[u8], kind: u16) -> Result<u64> {
    u64_of(body, kind).ok_or_else(|| Malformed("an object without a handle".to_owned()))
}

pub(super) fn generation(bytes: &[u8]) -> Result<u32> {
    let (_, body) = parts(bytes)?;
    u32_of(body, NFTA_GEN_ID).ok_or_else(|| Malformed("no generation".to_owned()))
}

/// A table of a family that we do not know is passed over.
pub(super) fn table(bytes: &[u8]) -> Result<Option<ListedTable>> {
    let (Some(family), body) = parts(bytes)? else { return Ok(None) };
    Ok(Some(ListedTable {
        family,
        name: name_of(body, NFTA_TABLE_NAME)?,
        handle: handle_of(body, NFTA_TABLE_HANDLE)?,
        owner: u32_of(body, NFTA_TABLE_OWNER),
        comment: comment_of(body, NFTA_TABLE_USERDATA, NFTNL_UDATA_TABLE_COMMENT),
    }))
}

/// The kernel lists the chains of every table.
pub(super) fn chain(bytes: &[u8], of: Table<'_>) -> Result<Option<ListedChain>> {
    let Some(body) = body_in(bytes, of.family)? else { return Ok(None) };
    let table = name_of(body, NFTA_CHAIN_TABLE)?;
    if table != of.name {
        return Ok(None);
    }
    Ok(Some(ListedChain {
        table,
        name: name_of(body, NFTA_CHAIN_NAME)?,
        handle: handle_of(body, NFTA_CHAIN_HANDLE)?,
        base: base(body),
        uses: u32_of(body, NFTA_CHAIN_USE).unwrap_or(0),
        comment: comment_of(body, NFTA_CHAIN_USERDATA, NFTNL_UDATA_CHAIN_COMMENT),
    }))
}

fn base(body: &[u8]) -> Option<Base> {
    let hook = find(body, NFTA_CHAIN_HOOK)?;
    Some(Base {
        kind: ChainKind::from_name(&text_of(body, NFTA_CHAIN_TYPE)?)?,
        hook: Hook::from_number(u32_of(hook, NFTA_HOOK_HOOKNUM)?)?,
        priority: u32_of(hook, NFTA_HOOK_PRIORITY)?.cast_signed(),
        policy: match u32_of(body, NFTA_CHAIN_POLICY)? {
            0 => Some(Policy::Drop),
            _ => Some(Policy::Accept),
        },
    })
}

pub(super) fn rule(bytes: &[u8], of: Table<'_>) -> Result<Option<ListedRule>> {
    let Some(body) = body_in(bytes, of.family)? else { return Ok(None) };
    let table = name_of(body, NFTA_RULE_TABLE)?;
    if table != of.name {
        return Ok(None);
    }
    Ok(Some(ListedRule {
        table,
        chain: name_of(body, NFTA_RULE_CHAIN)?,
        handle: handle_of(body, NFTA_RULE_HANDLE)?,
        expressions: Expr::decode_list(find(body, NFTA_RULE_EXPRESSIONS).unwrap_or_default()),
        comment: comment_of(body, NFTA_RULE_USERDATA, NFTNL_UDATA_RULE_COMMENT),
    }))
}

pub(super) fn set(bytes: &[u8], of: Table<'_>) -> Result<Option<ListedSet>> {
    let Some(body) = body_in(bytes, of.family)? else { return Ok(None) };
    let table = name_of(body, NFTA_SET_TABLE)?;
    if table != of.name {
        return Ok(None);
    }
    let flags = u32_of(body, NFTA_SET_FLAGS).unwrap_or(0);
    Ok(Some(ListedSet {
        table,
        name: name_of(body, NFTA_SET_NAME)?,
        handle: handle_of(body, NFTA_SET_HANDLE)?,
        key_len: u32_of(body, NFTA_SET_KEY_LEN).unwrap_or(0),
        key_type: u32_of(body, NFTA_SET_KEY_TYPE).unwrap_or(0),
        flags,
        data_type: u32_of(body, NFTA_SET_DATA_TYPE),
        is_map: flags & NFT_SET_MAP != 0,
        is_verdict_map: u32_of(body, NFTA_SET_DATA_TYPE) == Some(NFT_DATA_VERDICT),
        intervals: flags & NFT_SET_INTERVAL != 0,
        timeouts: flags & NFT_SET_TIMEOUT != 0,
        default_timeout: u64_of(body, NFTA_SET_TIMEOUT).map(Duration::from_millis),
        dynamic: flags & NFT_SET_EVAL != 0,
        count: u32_of(body, NFTA_SET_COUNT),
        comment: comment_of(body, NFTA_SET_USERDATA, NFTNL_UDATA_SET_COMMENT),
    }))
}

/// A message holds many elements.
pub(super) fn elements(bytes: &[u8]) -> Result<Option<Vec<ListedElement>>> {
    let (_, body) = parts(bytes)?;
    let list = find(body, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    attributes(list)
        .filter(|(kind, _)| *kind == NFTA_LIST_ELEM)
        .map(|(_, bytes)| element(bytes))
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

fn element(bytes: &[u8]) -> Result<ListedElement> {
    let flags = u32_of(bytes, NFTA_SET_ELEM_FLAGS).unwrap_or(0);
    let duration = |kind| u64_of(bytes, kind).map(Duration::from_millis);
    Ok(ListedElement {
        key: key(bytes, NFTA_SET_ELEM_KEY)
            .ok_or_else(|| Malformed("an element without a key".to_owned()))?,
        to: key(bytes, NFTA_SET_ELEM_KEY_END),
        ends_range: flags & NFT_SET_ELEM_INTERVAL_END != 0,
        data: find(bytes, NFTA_SET_ELEM_DATA).and_then(data),
        timeout: duration(NFTA_SET_ELEM_TIMEOUT),
        expires: duration(NFTA_SET_ELEM_EXPIRATION),
        comment: comment_of(bytes, NFTA_SET_ELEM_USERDATA, NFTNL_UDATA_SET_ELEM_COMMENT),
    })
}

fn key(bytes: &[u8], kind: u16) -> Option<Key> {
    Key::from_kernel(find(find(bytes, kind)?, NFTA_DATA_VALUE)?)
}

fn data(bytes: &[u8]) -> Option<Data> {
    match find(bytes, NFTA_DATA_VERDICT) {
        Some(verdict) => Verdict::decode(verdict).map(Data::Verdict),
        None => Key::from_kernel(find(bytes, NFTA_DATA_VALUE)?).map(Data::Value),
    }
}
