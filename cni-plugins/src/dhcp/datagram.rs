//! IPv4 and UDP headers around a DHCP message (RFC 791, RFC 768): a client without an address writes them itself.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use super::message::quad;

/// The ports of clients and servers.
pub const CLIENT: u16 = 68;
pub const SERVER: u16 = 67;

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const TTL: u8 = 64;
/// "More fragments", and the offset of one.
const FRAGMENT: u16 = 0x3fff;

/// A datagram from a client to a server.
pub fn encode(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let udp_length = length(UDP_HEADER + payload.len());
    let mut bytes = vec![0; IP_HEADER + UDP_HEADER];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&length(IP_HEADER + UDP_HEADER + payload.len()).to_be_bytes());
    bytes[8] = TTL;
    bytes[9] = UDP;
    bytes[12..16].copy_from_slice(&from.octets());
    bytes[16..20].copy_from_slice(&to.octets());
    let sum = checksum(0, &bytes[..IP_HEADER]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes[20..22].copy_from_slice(&CLIENT.to_be_bytes());
    bytes[22..24].copy_from_slice(&SERVER.to_be_bytes());
    bytes[24..26].copy_from_slice(&udp_length.to_be_bytes());
    bytes.extend(payload);
    // A sum of 0 would mean that there is none.
    let sum = match checksum(pseudo_header(from, to, udp_length), &bytes[IP_HEADER..]) {
        0 => u16::MAX,
        sum => sum,
    };
    bytes[26..28].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The payload of a datagram from a server to a client. `None`: it is something else, or damaged.
pub fn decode(bytes: &[u8], checksum_is_complete: bool) -> Option<&[u8]> {
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    let whole = bytes.get(..usize::from(number(bytes, 2)?))?;
    let sound = bytes[0] >> 4 == 4
        && header >= IP_HEADER
        && whole.len() >= header + UDP_HEADER
        && checksum(0, &whole[..header]) == 0;
    if !sound || whole[9] != UDP || number(whole, 6)? & FRAGMENT != 0 {
        return None;
    }
    let udp = &whole[header..];
    let udp = udp.get(..usize::from(number(udp, 4)?))?;
    // From which port a server or a relay sends is its own affair.
    if udp.len() < UDP_HEADER || number(udp, 2)? != CLIENT {
        return None;
    }
    let pseudo = pseudo_header(quad(&whole[12..16])?, quad(&whole[16..20])?, length(udp.len()));
    let to_check = checksum_is_complete && number(udp, 6)? != 0;
    if to_check && checksum(pseudo, udp) != 0 {
        return None;
    }
    Some(&udp[UDP_HEADER..])
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn length(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// What the UDP checksum also covers.
fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, udp_length: u16) -> u32 {
    sum(&from.octets()) + sum(&to.octets()) + u32::from(UDP) + u32::from(udp_length)
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from));
    words.sum()
}

/// The Internet checksum (RFC 1071); 0 over bytes with a right one.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let mut total = start + sum(bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap_or_default()
}
