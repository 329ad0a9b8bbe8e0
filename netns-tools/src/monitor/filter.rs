//! What a monitor's socket lets in: a program of the classic packet filter (`Documentation/networking/filter.rst`), which runs on each
//! netlink message.

use libc::sock_filter;

use super::{AF_BRIDGE, FAMILY, Filter, Kinds};

/// Where a message keeps its type and the port of the socket that asked for the change (`struct nlmsghdr`).
const TYPE: u32 = 4;
const PORT: u32 = 12;
/// Where a neighbour keeps its link (`struct ndmsg`).
const LINK: u32 = 20;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const LEAVE: u32 = 0;
const TAKE: u32 = u32::MAX;
/// A program has at most 4096 steps (`BPF_MAXINSNS`); each number takes two.
const MOST: usize = 1000;

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Ends the program with `verdict` if what was loaded is `value`.
fn end_if(value: u32, verdict: u32) -> [sock_filter; 2] {
    [step(JUMP_IF_EQUAL, 0, 1, value), step(RETURN, 0, 0, verdict)]
}

/// Lets in what is of one of the kinds and not left out.
pub(super) fn program(kinds: Kinds, filter: &Filter) -> Vec<sock_filter> {
    // The filter takes numbers for ones in network byte order.
    let neighbour = |kind: u16| u32::from(kind.to_be());
    let mut steps = vec![step(LOAD_WORD, 0, 0, PORT)];
    // With more than fit, the rest is told: more than was asked for, but never less.
    for port in filter.ignored_ports.iter().take(MOST) {
        steps.extend(end_if(port.to_be(), LEAVE));
    }
    steps.extend([
        step(LOAD_HALF, 0, 0, TYPE),
        step(JUMP_IF_EQUAL, 2, 0, neighbour(libc::RTM_NEWNEIGH)),
        step(JUMP_IF_EQUAL, 1, 0, neighbour(libc::RTM_DELNEIGH)),
        step(RETURN, 0, 0, TAKE),
        step(LOAD_BYTE, 0, 0, u32::try_from(FAMILY).unwrap_or_default()),
    ]);
    // Both come from one group.
    if !kinds.fdb {
        steps.extend(end_if(AF_BRIDGE.into(), LEAVE));
    }
    if !kinds.neighbours {
        steps.extend([step(JUMP_IF_EQUAL, 1, 0, AF_BRIDGE.into()), step(RETURN, 0, 0, LEAVE)]);
    }
    match &filter.neighbour_links {
        Some(links) if links.len() <= MOST => {
            steps.push(step(LOAD_WORD, 0, 0, LINK));
            for link in links {
                steps.extend(end_if(link.to_be(), TAKE));
            }
            steps.push(step(RETURN, 0, 0, LEAVE));
        }
        _ => steps.push(step(RETURN, 0, 0, TAKE)),
    }
    steps
}
