//! Changes to be made together, or not at all.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
};

use super::buffer::{Buffer, find, text, text_of, u64_of};
use super::expr::Expr;
use super::object::{Base, Chain, Family, Table, Verdict};
use super::rule::Rule;
use super::set::{Element, Set};
use super::uapi::{
    NFNL_BATCH_GENID, NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES,
    NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_DELSET, NFT_MSG_DELSETELEM, NFT_MSG_DELTABLE,
    NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM, NFT_MSG_NEWTABLE,
    NFT_TABLE_F_OWNER, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE,
    NFTA_CHAIN_TYPE, NFTA_CHAIN_USERDATA, NFTA_EXPR_NAME, NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY,
    NFTA_RULE_CHAIN, NFTA_RULE_HANDLE, NFTA_RULE_POSITION, NFTA_RULE_TABLE,
    NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_NAME,
    NFTA_SET_TABLE, NFTA_TABLE_FLAGS, NFTA_TABLE_NAME, NFTA_TABLE_USERDATA,
    NFTNL_UDATA_CHAIN_COMMENT, NFTNL_UDATA_TABLE_COMMENT,
};

/// `sizeof(struct nlmsghdr)`, and `struct nfgenmsg` behind it.
const HEADER_LEN: usize = 16;
const FAMILY_LEN: usize = 4;
/// A list of elements is one attribute, which has at most 64 KiB; the longest element has less than 1 KiB.
const ELEMENTS_LEN: usize = 60 * 1024;

/// A transaction in the making: the bytes that will be sent, so that a change costs no allocation of its own.
///
/// The changes are made in the order of the calls, and later ones see what earlier ones made. Everything happens in one step:
/// no packet meets half of it, and one change that the kernel refuses undoes all.
#[derive(Clone, Debug)]
pub struct Batch {
    buffer: Buffer,
    /// Where the last change begins.
    last: usize,
    /// Where the changes end, and the end of the batch begins.
    end: usize,
    count: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// An empty one.
    pub fn new() -> Self {
        Self::begin(None)
    }

    /// An empty one that the kernel refuses ([`super::NftError::Changed`]) unless its rules are still those of this
    /// generation ([`super::Nftables::generation`]).
    pub fn at_generation(generation: u32) -> Self {
        Self::begin(Some(generation))
    }

    fn begin(generation: Option<u32>) -> Self {
        let mut batch = Self { buffer: Buffer::default(), last: 0, end: 0, count: 0 };
        let start = batch.open(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0);
        if let Some(generation) = generation {
            batch.buffer.u32(NFNL_BATCH_GENID, generation);
        }
        batch.close(start);
        batch.finish();
        batch
    }

    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many messages it consists of. Long lists of elements are several.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// What will be sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer.bytes
    }

    pub(super) fn invalid(&self) -> Option<&(String, &'static str)> {
        self.buffer.invalid.as_ref()
    }

    /// The number of the last change, which the kernel acknowledges.
    pub(super) fn last_sequence(&self) -> u32 {
        self.count
    }

    fn open(&mut self, kind: u16, flags: u16, family: u8) -> usize {
        let start = self.buffer.len();
        let bytes = &mut self.buffer.bytes;
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&self.count.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&family_header(family, NFNL_SUBSYS_NFTABLES));
        start
    }

    fn close(&mut self, start: usize) {
        let Ok(length) = u32::try_from(self.buffer.len() - start) else {
            return self.buffer.refuse("a batch", "it is longer than 4 GiB");
        };
        self.buffer.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn finish(&mut self) {
        self.end = self.buffer.len();
        let start = self.open(NFNL_MSG_BATCH_END, NLM_F_REQUEST, 0);
        self.close(start);
    }

    fn message(&mut self, kind: u16, flags: u16, family: Family, body: impl FnOnce(&mut Buffer)) {
        self.buffer.bytes.truncate(self.end);
        if self.count > 0 {
            // Only the last change is acknowledged; refusals come for each.
            self.set_flags(self.last, |flags| flags & !NLM_F_ACK);
        }
        self.count += 1;
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        let start = self.open(kind, NLM_F_REQUEST | NLM_F_ACK | flags, family.number());
        // In a change, the second half of the family's header has no meaning.
        self.buffer.bytes[start + HEADER_LEN + 2..start + HEADER_LEN + 4].fill(0);
        body(&mut self.buffer);
        self.close(start);
        self.last = start;
        self.finish();
    }

    fn set_flags(&mut self, message: usize, change: impl FnOnce(u16) -> u16) {
        let bytes = &mut self.buffer.bytes[message + 6..message + 8];
        let flags = change(u16::from_ne_bytes([bytes[0], bytes[1]]));
        bytes.copy_from_slice(&flags.to_ne_bytes());
    }

    /// Makes a table, unless it is there.
    pub fn add_table(&mut self, table: Table<'_>) -> &mut Self {
        self.add_table_with(table, None)
    }

    /// Makes a table with a comment of at most [`super::COMMENT_MAX`] bytes. That of a table that is there does not change.
    pub fn add_table_with(&mut self, table: Table<'_>, comment: Option<&str>) -> &mut Self {
        self.message(NFT_MSG_NEWTABLE, NLM_F_CREATE, table.family, |to| {
            to.name(NFTA_TABLE_NAME, table.name);
            to.u32(NFTA_TABLE_FLAGS, 0);
            to.comment(NFTA_TABLE_USERDATA, NFTNL_UDATA_TABLE_COMMENT, comment);
        });
        self
    }

    /// Makes a table that nobody else can change, and that goes with the [`super::Nftables`] that commits this.
    pub fn add_owned_table(&mut self, table: Table<'_>) -> &mut Self {
        self.message(NFT_MSG_NEWTABLE, NLM_F_CREATE, table.family, |to| {
            to.name(NFTA_TABLE_NAME, table.name);
            to.u32(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER);
        });
        self
    }

    /// Deletes a table with all that is in it. It must be there; after [`Self::add_table`] it is.
    pub fn delete_table(&mut self, table: Table<'_>) -> &mut Self {
        self.message(NFT_MSG_DELTABLE, 0, table.family, |to| to.name(NFTA_TABLE_NAME, table.name));
        self
    }

    /// Makes a chain, unless it is there.
    pub fn add_chain(&mut self, table: Table<'_>, chain: &Chain<'_>) -> &mut Self {
        self.message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, table.family, |to| {
            to.name(NFTA_CHAIN_TABLE, table.name);
            to.name(NFTA_CHAIN_NAME, chain.name);
            if let Some(base) = chain.base {
                encode_base(base, to);
            }
            to.comment(NFTA_CHAIN_USERDATA, NFTNL_UDATA_CHAIN_COMMENT, chain.comment);
        });
        self
    }

    /// Deletes a chain with its rules. It must be there, and nothing may lead to it.
    pub fn delete_chain(&mut self, table: Table<'_>, chain: &str) -> &mut Self {
        self.message(NFT_MSG_DELCHAIN, 0, table.family, |to| {
            to.name(NFTA_CHAIN_TABLE, table.name);
            to.name(NFTA_CHAIN_NAME, chain);
        });
        self
    }

    /// Deletes the rules of a chain.
    pub fn flush_chain(&mut self, table: Table<'_>, chain: &str) -> &mut Self {
        self.message(NFT_MSG_DELRULE, 0, table.family, |to| {
            to.name(NFTA_RULE_TABLE, table.name);
            to.name(NFTA_RULE_CHAIN, chain);
        });
        self
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, table: Table<'_>, chain: &str, rule: &Rule) -> &mut Self {
        self.rule(NLM_F_CREATE | NLM_F_APPEND, table, chain, rule, |_| {})
    }

    /// Adds a rule at the beginning of a chain.
    pub fn insert_rule(&mut self, table: Table<'_>, chain: &str, rule: &Rule) -> &mut Self {
        self.rule(NLM_F_CREATE, table, chain, rule, |_| {})
    }

    /// Adds a rule behind the one with this handle.
    pub fn add_rule_after(
        &mut self,
        table: Table<'_>,
        chain: &str,
        handle: u64,
        rule: &Rule,
    ) -> &mut Self {
        let position = |to: &mut Buffer| to.u64(NFTA_RULE_POSITION, handle);
        self.rule(NLM_F_CREATE | NLM_F_APPEND, table, chain, rule, position)
    }

    /// Adds a rule in front of the one with this handle.
    pub fn insert_rule_before(
        &mut self,
        table: Table<'_>,
        chain: &str,
        handle: u64,
        rule: &Rule,
    ) -> &mut Self {
        let position = |to: &mut Buffer| to.u64(NFTA_RULE_POSITION, handle);
        self.rule(NLM_F_CREATE, table, chain, rule, position)
    }

    /// Puts a rule in the place of the one with this handle.
    pub fn replace_rule(
        &mut self,
        table: Table<'_>,
        chain: &str,
        handle: u64,
        rule: &Rule,
    ) -> &mut Self {
        self.rule(NLM_F_REPLACE, table, chain, rule, |to| to.u64(NFTA_RULE_HANDLE, handle))
    }

    fn rule(
        &mut self,
        flags: u16,
        table: Table<'_>,
        chain: &str,
        rule: &Rule,
        place: impl FnOnce(&mut Buffer),
    ) -> &mut Self {
        self.message(NFT_MSG_NEWRULE, flags, table.family, |to| {
            to.name(NFTA_RULE_TABLE, table.name);
            to.name(NFTA_RULE_CHAIN, chain);
            place(to);
            rule.encode(to);
        });
        self
    }

    /// Deletes the rule with this handle ([`super::ListedRule::handle`]).
    pub fn delete_rule(&mut self, table: Table<'_>, chain: &str, handle: u64) -> &mut Self {
        self.message(NFT_MSG_DELRULE, 0, table.family, |to| {
            to.name(NFTA_RULE_TABLE, table.name);
            to.name(NFTA_RULE_CHAIN, chain);
            to.u64(NFTA_RULE_HANDLE, handle);
        });
        self
    }

    /// Makes a set or map, unless it is there.
    pub fn add_set(&mut self, table: Table<'_>, set: &Set<'_>) -> &mut Self {
        let id = self.count + 1;
        self.message(NFT_MSG_NEWSET, NLM_F_CREATE, table.family, |to| {
            to.name(NFTA_SET_TABLE, table.name);
            set.encode(id, to);
        });
        self
    }

    /// Deletes a set or map. It must be there, and no rule may use it.
    pub fn delete_set(&mut self, table: Table<'_>, set: &str) -> &mut Self {
        self.message(NFT_MSG_DELSET, 0, table.family, |to| {
            to.name(NFTA_SET_TABLE, table.name);
            to.name(NFTA_SET_NAME, set);
        });
        self
    }

    /// Deletes every element of a set or map.
    pub fn flush_set(&mut self, table: Table<'_>, set: &str) -> &mut Self {
        self.message(NFT_MSG_DELSETELEM, 0, table.family, |to| {
            to.name(NFTA_SET_ELEM_LIST_TABLE, table.name);
            to.name(NFTA_SET_ELEM_LIST_SET, set);
        });
        self
    }

    /// Adds elements. One that is there already is no error, unless a map holds something else for the key: to change what it
    /// holds, delete the element first, in the same batch.
    pub fn add_elements<'e>(
        &mut self,
        table: Table<'_>,
        set: &str,
        elements: impl IntoIterator<Item = &'e Element>,
    ) -> &mut Self {
        self.elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE, table, set, elements)
    }

    /// As [`Self::add_elements`], but one that is there already is an error.
    pub fn create_elements<'e>(
        &mut self,
        table: Table<'_>,
        set: &str,
        elements: impl IntoIterator<Item = &'e Element>,
    ) -> &mut Self {
        self.elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, table, set, elements)
    }

    /// Deletes elements. Each must be there.
    pub fn delete_elements<'e>(
        &mut self,
        table: Table<'_>,
        set: &str,
        elements: impl IntoIterator<Item = &'e Element>,
    ) -> &mut Self {
        self.elements(NFT_MSG_DELSETELEM, 0, table, set, elements)
    }

    fn elements<'e>(
        &mut self,
        kind: u16,
        flags: u16,
        table: Table<'_>,
        set: &str,
        elements: impl IntoIterator<Item = &'e Element>,
    ) -> &mut Self {
        // No elements must be no message: without a list, the kernel deletes all.
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.message(kind, flags, table.family, |to| {
                to.name(NFTA_SET_ELEM_LIST_TABLE, table.name);
                to.name(NFTA_SET_ELEM_LIST_SET, set);
                to.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |to| {
                    let full = to.len() + ELEMENTS_LEN;
                    while to.len() < full
                        && let Some(element) = elements.next()
                    {
                        element.encode(to);
                    }
                });
            });
        }
        self
    }

    /// What the change with this number was to do, in words, and what in it the byte at `offset` belongs to.
    pub(super) fn describe(&self, sequence: u32, offset: Option<u32>) -> (String, Option<String>) {
        let Some(message) = self.find(sequence) else {
            return ("change packet filter rules".to_owned(), None);
        };
        let culprit = offset.and_then(|offset| culprit(message, offset as usize));
        (operation(message), culprit)
    }

    fn find(&self, sequence: u32) -> Option<&[u8]> {
        if sequence == 0 {
            // The beginning of the batch.
            return None;
        }
        let mut rest = &self.buffer.bytes[..self.end];
        loop {
            let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
            let (message, more) = rest.split_at_checked(length)?;
            if message.get(8..12)? == sequence.to_ne_bytes() {
                return message.get(HEADER_LEN + FAMILY_LEN..).map(|_| message);
            }
            rest = more;
        }
    }
}

/// `struct nfgenmsg`.
pub(super) fn family_header(family: u8, resource: u16) -> [u8; FAMILY_LEN] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn encode_base(base: Base, to: &mut Buffer) {
    to.nested(NFTA_CHAIN_HOOK, |to| {
        to.u32(NFTA_HOOK_HOOKNUM, base.hook as u32);
        to.u32(NFTA_HOOK_PRIORITY, base.priority.cast_unsigned());
    });
    if let Some(policy) = base.policy {
        to.u32(NFTA_CHAIN_POLICY, policy as u32);
    }
    to.word(NFTA_CHAIN_TYPE, base.kind.name());
}

/// `add rule to chain a in table inet b`.
fn operation(message: &[u8]) -> String {
    let kind = u16::from_ne_bytes([message[4], message[5]]) & 0xff;
    let body = &message[HEADER_LEN + FAMILY_LEN..];
    let (what, name_kind) = match kind {
        NFT_MSG_NEWTABLE => ("add table", None),
        NFT_MSG_DELTABLE => ("delete table", None),
        NFT_MSG_NEWCHAIN => ("add chain", Some(NFTA_CHAIN_NAME)),
        NFT_MSG_DELCHAIN => ("delete chain", Some(NFTA_CHAIN_NAME)),
        NFT_MSG_NEWRULE => ("add a rule to chain", Some(NFTA_RULE_CHAIN)),
        NFT_MSG_DELRULE if u64_of(body, NFTA_RULE_HANDLE).is_none() => {
            ("delete the rules of chain", Some(NFTA_RULE_CHAIN))
        }
        NFT_MSG_DELRULE => ("delete a rule of chain", Some(NFTA_RULE_CHAIN)),
        NFT_MSG_NEWSET => ("add set", Some(NFTA_SET_NAME)),
        NFT_MSG_DELSET => ("delete set", Some(NFTA_SET_NAME)),
        NFT_MSG_NEWSETELEM => ("add elements to set", Some(NFTA_SET_ELEM_LIST_SET)),
        NFT_MSG_DELSETELEM => ("delete elements of set", Some(NFTA_SET_ELEM_LIST_SET)),
        _ => ("change", None),
    };
    let family = Family::from_number(message[HEADER_LEN]).map_or("?", Family::name);
    // Every kind of message has its table first.
    let table = text_of(body, NFTA_TABLE_NAME).unwrap_or_default();
    match name_kind.and_then(|kind| text_of(body, kind)) {
        Some(name) => format!("{what} {name} in table {family} {table}"),
        None => format!("{what} {family} {table}"),
    }
}

/// The name at an offset into a message, if it is one: a chain that is not there, an expression that the kernel lacks.
fn culprit(message: &[u8], offset: usize) -> Option<String> {
    let value = message.get(offset + 4..)?;
    let length = usize::from(u16::from_ne_bytes(message.get(offset..offset + 2)?.try_into().ok()?));
    let value = value.get(..length.checked_sub(4)?)?;
    // An expression is at fault as a whole: for us, what it leads to is.
    if find(value, NFTA_EXPR_NAME).is_some() {
        return match Expr::decode(value) {
            Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain.into()),
            Expr::Lookup { set, .. } => Some(set.into()),
            other => Some(other.name().to_owned()),
        };
    }
    let (last, letters) = value.split_last()?;
    let is_name = *last == 0 && !letters.is_empty() && letters.iter().all(u8::is_ascii_graphic);
    is_name.then(|| text(value))
}
