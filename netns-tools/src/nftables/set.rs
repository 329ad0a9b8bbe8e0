//! Sets and maps, and what is in them.

use std::time::Duration;

use super::buffer::Buffer;
use super::object::Verdict;
use super::rule::Field;
use super::shown;
use super::uapi::{
    NFT_DATA_VERDICT, NFT_SET_CONCAT, NFT_SET_ELEM_INTERVAL_END, NFT_SET_EVAL, NFT_SET_INTERVAL,
    NFT_SET_MAP, NFT_SET_TIMEOUT, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_LIST_ELEM,
    NFTA_SET_DATA_LEN, NFTA_SET_DATA_TYPE, NFTA_SET_DESC, NFTA_SET_DESC_CONCAT, NFTA_SET_DESC_SIZE,
    NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END,
    NFTA_SET_ELEM_TIMEOUT, NFTA_SET_ELEM_USERDATA, NFTA_SET_FIELD_LEN, NFTA_SET_FLAGS, NFTA_SET_ID,
    NFTA_SET_KEY_LEN, NFTA_SET_KEY_TYPE, NFTA_SET_NAME, NFTA_SET_TIMEOUT, NFTA_SET_USERDATA,
    NFTNL_UDATA_SET_COMMENT, NFTNL_UDATA_SET_DATA_TYPEOF, NFTNL_UDATA_SET_DATABYTEORDER,
    NFTNL_UDATA_SET_ELEM_COMMENT, NFTNL_UDATA_SET_KEY_TYPEOF, NFTNL_UDATA_SET_KEYBYTEORDER,
};
use super::value::{Key, Value};

/// nft's `BYTEORDER_HOST_ENDIAN`.
const HOST_ENDIAN: u32 = 1;

/// The type of a field of a key or of a map's data. The kernel knows lengths only; nft(8) shows sets by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// `ipv4_addr`.
    Ipv4Addr,
    /// `ipv6_addr`.
    Ipv6Addr,
    /// `ether_addr`.
    EtherAddr,
    /// `inet_proto`.
    InetProto,
    /// `inet_service`: a port.
    InetService,
    /// `mark`: a number in host byte order; also what [`super::Field::Random`] makes.
    Mark,
    /// `ifname`.
    IfName,
}

impl Type {
    /// Its length in bytes, without what fills it up in a key of several fields.
    pub const fn size(self) -> u32 {
        self.parts().1
    }

    /// nft's number (`enum datatypes` in its `datatype.h`) and the length in bytes.
    const fn parts(self) -> (u32, u32) {
        match self {
            Self::Ipv4Addr => (7, 4),
            Self::Ipv6Addr => (8, 16),
            Self::EtherAddr => (9, 6),
            Self::InetProto => (12, 1),
            Self::InetService => (13, 2),
            Self::Mark => (19, 4),
            Self::IfName => (41, 16),
        }
    }
}

impl Key {
    /// Puts a key together from the bytes that the kernel tells, for which the types of its fields must be known. `None`: their
    /// lengths are others.
    pub fn of_bytes(bytes: &[u8], fields: &[Type]) -> Option<Self> {
        if bytes.len() != usize::try_from(total_len(fields)).ok()? {
            return None;
        }
        let mut rest = bytes;
        let mut key: Option<Self> = None;
        for field in fields {
            let len = usize::try_from(field.size()).ok()?;
            let value = Value::new(rest.get(..len)?)?;
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            key = Some(key.map_or_else(|| Self::new(value), |key| key.and(value)));
        }
        key
    }
}

/// nft's number for a concatenation has six bits for each field.
fn type_number(fields: &[Type]) -> u32 {
    fields.iter().fold(0, |number, field| (number << 6) | field.parts().0)
}

/// The fields of a concatenation begin at multiples of four bytes.
fn total_len(fields: &[Type]) -> u32 {
    match fields {
        [only] => only.parts().1,
        _ => fields.iter().map(|field| field.parts().1.next_multiple_of(4)).sum(),
    }
}

/// What a map holds for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOf<'a> {
    /// A decision.
    Verdicts,
    /// Data of these fields.
    Data(&'a [Type]),
}

/// A set or a map to be made.
///
/// ```
/// use netns_tools::nftables::{MapOf, Set, Type};
/// let key = [Type::Ipv4Addr, Type::InetProto, Type::InetService];
/// let services = Set { map: Some(MapOf::Verdicts), ..Set::new("services", &key) };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// The fields of its key.
    pub key: &'a [Type],
    /// A map, and of what.
    pub map: Option<MapOf<'a>>,
    /// Its elements may be ranges: see [`Element::range`].
    pub intervals: bool,
    /// Its elements may go by themselves: see [`Element::timeout`].
    pub timeouts: bool,
    /// How long an element stays that says nothing about it; needs `timeouts`.
    pub default_timeout: Option<Duration>,
    /// Rules add elements to it and delete them: see [`super::Expr::Dynset`].
    pub dynamic: bool,
    /// How many elements it can hold. A number that is known helps the kernel choose how to keep them.
    pub size: Option<u32>,
    /// What nft is to show the key and a map's data as (`typeof`), where their types have no word in its language, so that it could
    /// not read what it lists: a number that [`Field::Random`] makes. The kernel does not care.
    pub shown_as: Option<(&'a [Field], &'a [Field])>,
    /// At most [`super::COMMENT_MAX`] bytes.
    pub comment: Option<&'a str>,
}

impl<'a> Set<'a> {
    /// A plain set.
    pub const fn new(name: &'a str, key: &'a [Type]) -> Self {
        Self {
            name,
            key,
            map: None,
            intervals: false,
            timeouts: false,
            dynamic: false,
            default_timeout: None,
            size: None,
            shown_as: None,
            comment: None,
        }
    }

    /// A map from keys to verdicts.
    pub const fn verdict_map(name: &'a str, key: &'a [Type]) -> Self {
        Self { map: Some(MapOf::Verdicts), ..Self::new(name, key) }
    }

    /// A map from keys to data.
    pub const fn map(name: &'a str, key: &'a [Type], data: &'a [Type]) -> Self {
        Self { map: Some(MapOf::Data(data)), ..Self::new(name, key) }
    }

    /// Whether a set of the kernel is what this would make.
    pub fn is(&self, listed: &super::ListedSet) -> bool {
        let data = match self.map {
            Some(MapOf::Data(fields)) => Some(type_number(fields)),
            Some(MapOf::Verdicts) => Some(NFT_DATA_VERDICT),
            None => None,
        };
        listed.key_type == type_number(self.key)
            && listed.key_len == total_len(self.key)
            && listed.data_type == data
            && listed.flags == self.flags()
    }

    fn flags(&self) -> u32 {
        let mut flags = 0;
        let mut flag = |on: bool, bit| flags |= if on { bit } else { 0 };
        flag(self.map.is_some(), NFT_SET_MAP);
        flag(self.intervals, NFT_SET_INTERVAL);
        flag(self.is_concatenated_interval(), NFT_SET_CONCAT);
        flag(self.dynamic, NFT_SET_EVAL);
        flag(self.timeouts || self.default_timeout.is_some(), NFT_SET_TIMEOUT);
        flags
    }

    fn is_concatenated_interval(&self) -> bool {
        self.intervals && self.key.len() > 1
    }

    /// Writes what `NFT_MSG_NEWSET` needs besides the table. `id` is for the batch's own use.
    pub(super) fn encode(&self, id: u32, to: &mut Buffer) {
        to.name(NFTA_SET_NAME, self.name);
        to.u32(NFTA_SET_FLAGS, self.flags());
        to.u32(NFTA_SET_KEY_TYPE, type_number(self.key));
        to.u32(NFTA_SET_KEY_LEN, total_len(self.key));
        match self.map {
            Some(MapOf::Verdicts) => to.u32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT),
            Some(MapOf::Data(fields)) => {
                to.u32(NFTA_SET_DATA_TYPE, type_number(fields));
                to.u32(NFTA_SET_DATA_LEN, total_len(fields));
            }
            None => {}
        }
        to.u32(NFTA_SET_ID, id);
        if let Some(timeout) = self.default_timeout {
            to.u64(NFTA_SET_TIMEOUT, milliseconds(timeout));
        }
        if self.size.is_some() || self.is_concatenated_interval() {
            to.nested(NFTA_SET_DESC, |to| self.encode_description(to));
        }
        self.encode_user_data(to);
    }

    /// nft must be told of numbers in host byte order; those in a concatenation it knows by their types.
    fn encode_user_data(&self, to: &mut Buffer) {
        let data = match self.map {
            Some(MapOf::Data(fields)) => fields,
            _ => &[],
        };
        let mut entries = Vec::new();
        for (kind, fields) in
            [(NFTNL_UDATA_SET_KEYBYTEORDER, self.key), (NFTNL_UDATA_SET_DATABYTEORDER, data)]
        {
            if matches!(fields, [Type::Mark | Type::IfName]) {
                entries.push((kind, HOST_ENDIAN.to_ne_bytes().to_vec()));
            }
        }
        if let Some((key, data)) = self.shown_as {
            let parts = [(NFTNL_UDATA_SET_KEY_TYPEOF, key), (NFTNL_UDATA_SET_DATA_TYPEOF, data)];
            let parts = parts.into_iter().filter(|(_, fields)| !fields.is_empty());
            entries.extend(parts.filter_map(|(kind, of)| Some((kind, shown::fields(of)?))));
        }
        to.user_data(NFTA_SET_USERDATA, &entries, NFTNL_UDATA_SET_COMMENT, self.comment);
    }

    fn encode_description(&self, to: &mut Buffer) {
        if let Some(size) = self.size {
            to.u32(NFTA_SET_DESC_SIZE, size);
        }
        if self.is_concatenated_interval() {
            to.nested(NFTA_SET_DESC_CONCAT, |to| {
                for field in self.key {
                    to.nested(NFTA_LIST_ELEM, |to| to.u32(NFTA_SET_FIELD_LEN, field.parts().1));
                }
            });
        }
    }
}

/// What an element of a map holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Addresses, ports, …
    Value(Key),
    /// A decision.
    Verdict(Verdict),
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its key, or the smallest of a range.
    pub key: Key,
    /// The largest of a range.
    pub to: Option<Key>,
    /// For maps.
    pub data: Option<Data>,
    /// It goes after this time. Its set must have [`Set::timeouts`].
    pub timeout: Option<Duration>,
    /// At most [`super::COMMENT_MAX`] bytes.
    pub comment: Option<Box<str>>,
}

impl Element {
    /// An element of a set; enough to delete one of a map.
    pub fn new(key: impl Into<Key>) -> Self {
        Self { key: key.into(), to: None, data: None, timeout: None, comment: None }
    }

    /// Every key from one to another, both included, in a set with [`Set::intervals`]. The range of a concatenated key is a
    /// range in each of its fields.
    pub fn range(from: impl Into<Key>, to: impl Into<Key>) -> Self {
        Self { to: Some(to.into()), ..Self::new(from) }
    }

    /// An element of a map from keys to data.
    pub fn with_value(key: impl Into<Key>, value: impl Into<Key>) -> Self {
        Self { data: Some(Data::Value(value.into())), ..Self::new(key) }
    }

    /// An element of a map from keys to verdicts.
    pub fn with_verdict(key: impl Into<Key>, verdict: Verdict) -> Self {
        Self { data: Some(Data::Verdict(verdict)), ..Self::new(key) }
    }

    /// With a time after which it goes.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// With a comment.
    #[must_use]
    pub fn comment(self, comment: &str) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }

    /// Writes one or, for the range of a single field, two `NFTA_LIST_ELEM`.
    pub(super) fn encode(&self, to: &mut Buffer) {
        let concatenated = self.key.is_concatenated();
        to.nested(NFTA_LIST_ELEM, |to| {
            key(NFTA_SET_ELEM_KEY, &self.key, to);
            if let Some(last) = self.to.filter(|_| concatenated) {
                key(NFTA_SET_ELEM_KEY_END, &last, to);
            }
            self.encode_rest(to);
        });
        // The kernel keeps a range of one field as two elements: where it begins, and where it is over. One that
        // reaches to the largest key of all is never over.
        if let Some(end) = self.to.filter(|_| !concatenated).and_then(Key::successor) {
            to.nested(NFTA_LIST_ELEM, |to| {
                to.u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
                key(NFTA_SET_ELEM_KEY, &end, to);
            });
        }
    }

    fn encode_rest(&self, to: &mut Buffer) {
        match &self.data {
            Some(Data::Value(value)) => key(NFTA_SET_ELEM_DATA, value, to),
            Some(Data::Verdict(verdict)) => to.nested(NFTA_SET_ELEM_DATA, |to| {
                to.nested(NFTA_DATA_VERDICT, |to| verdict.encode(to));
            }),
            None => {}
        }
        if let Some(timeout) = self.timeout {
            to.u64(NFTA_SET_ELEM_TIMEOUT, milliseconds(timeout));
        }
        let comment = self.comment.as_deref();
        to.comment(NFTA_SET_ELEM_USERDATA, NFTNL_UDATA_SET_ELEM_COMMENT, comment);
    }
}

fn key(attribute: u16, key: &Key, to: &mut Buffer) {
    if key.is_too_long() {
        to.refuse(&format!("{key:?}"), "a key has at most 64 bytes");
    }
    to.nested(attribute, |to| to.put(NFTA_DATA_VALUE, key.as_slice()));
}

/// As the kernel counts.
pub(super) fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}
