//! What a packet socket lets in: a program of the classic packet filter (`Documentation/networking/filter.rst`).

use libc::sock_filter;

/// `IPPROTO_UDP`.
const UDP: u32 = 17;
/// Where the IP header keeps its protocol, and flags and offset of a fragment.
const IP_PROTOCOL: u32 = 9;
const IP_FRAGMENT: u32 = 6;
/// A later fragment has no UDP header.
const FRAGMENT_OFFSET: u32 = 0x1fff;
/// Where the UDP header keeps the destination port.
const UDP_PORT: u32 = 2;
/// All of the datagram.
const ALL: u32 = u32::MAX;

const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_HALF_INDIRECT: u16 = 0x48;
const LOAD_HEADER_LENGTH: u16 = 0xb1;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// UDP datagrams for `port`, in IPv4 without the Ethernet header.
pub fn udp_to(port: u16) -> [sock_filter; 9] {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    [
        step(LOAD_BYTE, 0, 0, IP_PROTOCOL),
        step(JUMP_IF_EQUAL, 0, 5, UDP),
        step(LOAD_HALF, 0, 0, IP_FRAGMENT),
        step(JUMP_IF_SET, 3, 0, FRAGMENT_OFFSET),
        step(LOAD_HEADER_LENGTH, 0, 0, 0),
        step(LOAD_HALF_INDIRECT, 0, 0, UDP_PORT),
        // The last two steps: leave it, or take it.
        step(JUMP_IF_EQUAL, 1, 0, port.into()),
        step(RETURN, 0, 0, 0),
        step(RETURN, 0, 0, ALL),
    ]
}
