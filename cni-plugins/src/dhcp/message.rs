//! DHCP messages as they are on the wire (RFC 2131, section 2; options: RFC 2132, RFC 3396).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use netns_tools::MacAddr;

/// Options by their codes, without pad, end and overload.
pub type Options = BTreeMap<u8, Vec<u8>>;

/// The codes that this client itself writes or reads (RFC 2132, RFC 3442).
pub mod code {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const HOST_NAME: u8 = 12;
    pub const STATIC_ROUTES: u8 = 33;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MAX_SIZE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const USER_CLASS: u8 = 77;
    pub const CLASSLESS_ROUTES: u8 = 121;
    pub const END: u8 = 255;
}

/// The length of everything before the options: RFC 951's fields, and the cookie.
const FIXED: usize = 240;
/// Some relays drop what is shorter than a BOOTP message (RFC 1542, section 2.1).
const SHORTEST: usize = 300;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const ETHERNET: u8 = 1;
const BROADCAST_FLAG: u8 = 0x80;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// The message types (RFC 2132, section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Offer,
    Request,
    Ack,
    Nak,
    Release,
}

impl Kind {
    const ALL: [(Self, u8); 6] = [
        (Self::Discover, 1),
        (Self::Offer, 2),
        (Self::Request, 3),
        (Self::Ack, 5),
        (Self::Nak, 6),
        (Self::Release, 7),
    ];

    /// The value of option 53.
    pub fn number(self) -> u8 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, number)| *number)
    }
}

/// A message, to a server or from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// From a server.
    pub reply: bool,
    /// What an answer has in common with its question.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The client can take in answers only if they are broadcast.
    pub broadcast: bool,
    /// The client's address if it may be used.
    pub ciaddr: Ipv4Addr,
    /// The address that a server gives.
    pub yiaddr: Ipv4Addr,
    /// The client's Ethernet address.
    pub chaddr: MacAddr,
    /// The options.
    pub options: Options,
}

impl Message {
    /// The message type; `None` for one that no client has to do with.
    pub fn kind(&self) -> Option<Kind> {
        let [number] = self.options.get(&code::MESSAGE_TYPE)?.as_slice() else { return None };
        Kind::ALL.iter().find(|(_, own)| own == number).map(|(kind, _)| *kind)
    }

    /// An option that is an address; the first if it is a list of addresses.
    pub fn address(&self, option: u8) -> Option<Ipv4Addr> {
        address(&self.options, option)
    }

    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        bytes[..3].copy_from_slice(&[if self.reply { 2 } else { 1 }, ETHERNET, 6]);
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.secs.to_be_bytes());
        bytes[10] = if self.broadcast { BROADCAST_FLAG } else { 0 };
        bytes[12..16].copy_from_slice(&self.ciaddr.octets());
        bytes[16..20].copy_from_slice(&self.yiaddr.octets());
        bytes[28..34].copy_from_slice(&self.chaddr.0);
        bytes[FIXED - 4..].copy_from_slice(&COOKIE);
        // The type comes first: some servers look no further.
        let (first, others): (Vec<_>, Vec<_>) =
            self.options.iter().partition(|(option, _)| **option == code::MESSAGE_TYPE);
        for (option, value) in first.into_iter().chain(others) {
            write_option(&mut bytes, *option, value);
        }
        bytes.push(code::END);
        bytes.resize(bytes.len().max(SHORTEST), code::PAD);
        bytes
    }

    /// Reads a message; `None` if it is none, or damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_at_checked(FIXED)?;
        let reply = match fixed[..3] {
            [1, ETHERNET, 6] => false,
            [2, ETHERNET, 6] => true,
            _ => return None,
        };
        if fixed[FIXED - 4..] != COOKIE {
            return None;
        }
        let mut options = Options::new();
        read_options(rest, &mut options)?;
        let overload = options.remove(&code::OVERLOAD).and_then(|value| value.first().copied());
        for (bit, field) in [(1, FILE), (2, SNAME)] {
            if overload.is_some_and(|fields| fields & bit != 0) {
                read_options(&fixed[field], &mut options)?;
            }
        }
        let mut chaddr = [0; 6];
        chaddr.copy_from_slice(&fixed[28..34]);
        Some(Self {
            reply,
            xid: u32::from_be_bytes(fixed[4..8].try_into().ok()?),
            secs: u16::from_be_bytes(fixed[8..10].try_into().ok()?),
            broadcast: fixed[10] & BROADCAST_FLAG != 0,
            ciaddr: quad(&fixed[12..16])?,
            yiaddr: quad(&fixed[16..20])?,
            chaddr: MacAddr(chaddr),
            options,
        })
    }
}

/// An option that is an address; the first if it is a list of addresses.
pub fn address(options: &Options, option: u8) -> Option<Ipv4Addr> {
    quad(options.get(&option)?.get(..4)?)
}

/// An option that is a number of seconds.
pub fn seconds(options: &Options, option: u8) -> Option<u32> {
    Some(u32::from_be_bytes(options.get(&option)?.as_slice().try_into().ok()?))
}

/// Four bytes as an address.
pub fn quad(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

/// One that is too long for an option is written as several (RFC 3396).
fn write_option(bytes: &mut Vec<u8>, option: u8, value: &[u8]) {
    let parts = value.chunks(255).chain(value.is_empty().then_some(value));
    for part in parts {
        bytes.push(option);
        bytes.extend(u8::try_from(part.len()));
        bytes.extend(part);
    }
}

/// Of an option that comes several times, the parts belong together (RFC 3396).
fn read_options(mut bytes: &[u8], options: &mut Options) -> Option<()> {
    while let Some((&option, rest)) = bytes.split_first() {
        match option {
            code::PAD => bytes = rest,
            code::END => break,
            _ => {
                let (&length, rest) = rest.split_first()?;
                let (value, rest) = rest.split_at_checked(length.into())?;
                options.entry(option).or_default().extend(value);
                bytes = rest;
            }
        }
    }
    Some(())
}
