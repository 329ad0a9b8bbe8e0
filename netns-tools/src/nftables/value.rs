//! Data in registers, and keys of sets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::MacAddr;

/// `IFNAMSIZ` (`linux/if.h`).
const NAME_LEN: usize = 16;

/// Up to `N` bytes, in place: rules and elements cost no allocation for them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

/// What one register of 16 bytes holds.
pub type Value = Bytes<16>;

impl<const N: usize> Bytes<N> {
    const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    /// `None` when there are more than `N`.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut value = Self::EMPTY;
        value.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        value.len = u8::try_from(bytes.len()).ok()?;
        Some(value)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// As many zero bytes.
    #[must_use]
    pub fn zeroed(self) -> Self {
        Self { bytes: [0; N], ..self }
    }

    /// The first `len` bytes, or all there are.
    #[must_use]
    pub fn truncated(self, len: usize) -> Self {
        Self::new(self.as_slice().get(..len).unwrap_or(self.as_slice())).unwrap_or(self)
    }

    /// Adds bytes that fit by the caller's construction.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let start = usize::from(self.len);
        let Some(place) = self.bytes.get_mut(start..start + bytes.len()) else { return false };
        place.copy_from_slice(bytes);
        self.len = u8::try_from(start + bytes.len()).unwrap_or(u8::MAX);
        true
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.as_slice().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Value {
    /// A number in host byte order: marks, interface indexes, states, what `numgen` makes.
    pub fn host(number: u32) -> Self {
        Self::of(&number.to_ne_bytes())
    }

    /// A short number in host byte order.
    pub(super) fn host_u16(number: u16) -> Self {
        Self::of(&number.to_ne_bytes())
    }

    /// An interface's name, as registers hold it: filled up with zero bytes. A name that is too long matches nothing;
    /// it is cut after 15 bytes.
    pub fn interface(name: &str) -> Self {
        let mut bytes = [0; NAME_LEN];
        let len = name.len().min(NAME_LEN - 1);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self::of(&bytes)
    }

    /// At most 16 bytes.
    fn of(bytes: &[u8]) -> Self {
        Self::new(bytes).unwrap_or(Self::EMPTY)
    }
}

/// In network byte order, as in packets: a port.
impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::of(&number.to_be_bytes())
    }
}

impl From<u8> for Value {
    fn from(number: u8) -> Self {
        Self::of(&[number])
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Self {
        Self::of(&address.octets())
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Self {
        Self::of(&address.octets())
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<MacAddr> for Value {
    fn from(address: MacAddr) -> Self {
        Self::of(&address.0)
    }
}

/// The key of an element, or the data of a map's element: one or more fields, each of which begins at a multiple of four
/// bytes, as the registers do that it is compared with (`NFT_DATA_VALUE_MAXLEN`: 64 bytes in all).
///
/// ```
/// use netns_tools::nftables::Key;
/// // ip daddr . meta l4proto . th dport
/// let key = Key::new("10.96.0.1".parse::<std::net::Ipv4Addr>().unwrap()).and(6u8).and(443u16);
/// assert_eq!(key.as_slice(), [10, 96, 0, 1, 6, 0, 0, 0, 1, 187, 0, 0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    bytes: Bytes<64>,
    /// The last field ends here; padding follows only with a further field.
    end: u8,
    fields: u8,
    full: bool,
}

impl Key {
    /// A key of one field.
    pub fn new(field: impl Into<Value>) -> Self {
        Self { bytes: Bytes::EMPTY, end: 0, fields: 0, full: false }.and(field)
    }

    /// One field more.
    #[must_use]
    pub fn and(mut self, field: impl Into<Value>) -> Self {
        let field = field.into();
        let mut bytes = [0; 16];
        let len = field.as_slice().len();
        bytes[..len].copy_from_slice(field.as_slice());
        self.end = self.bytes.len.saturating_add(field.len);
        self.full |= !self.bytes.push(&bytes[..len.next_multiple_of(4)]);
        self.fields += 1;
        self
    }

    /// As the kernel gives it; the fields are not told apart.
    pub(super) fn from_kernel(bytes: &[u8]) -> Option<Self> {
        let bytes = Bytes::new(bytes)?;
        Some(Self { bytes, end: bytes.len, fields: 1, full: false })
    }

    /// The bytes. A single field has no padding.
    pub fn as_slice(&self) -> &[u8] {
        let len = if self.fields > 1 { self.bytes.len } else { self.end };
        &self.bytes.bytes[..usize::from(len)]
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.full
    }

    pub(super) fn is_concatenated(&self) -> bool {
        self.fields > 1
    }

    /// The next larger number, where an interval ends for the kernel. `None`: there is none.
    pub(super) fn successor(mut self) -> Option<Self> {
        for byte in self.bytes.bytes[..usize::from(self.end)].iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return Some(self);
            }
        }
        None
    }
}

impl<T: Into<Value>> From<T> for Key {
    fn from(field: T) -> Self {
        Self::new(field)
    }
}
