//! Traffic control: the token bucket filter, the ingress hook, and the redirection of everything to another link (tc(8),
//! tc-tbf(8), `linux/pkt_sched.h`, `linux/pkt_cls.h`).
//!
//! Only what shaping a container's traffic takes. A link that *sends* to the container is shaped by a [`Tbf`] at its root. What
//! the container sends comes *in* at the host's end, where nothing can be queued: it is redirected to an intermediate link
//! ([`crate::link::ifb`]) and shaped there.

mod clock;
#[cfg(test)]
mod tests;

use netlink_packet_core::{
    DefaultNla, NLM_F_CREATE, NLM_F_EXCL, parse_i32, parse_string, parse_u32, parse_u64,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

pub use self::clock::{Clock, ClockError};
use crate::netlink::raw::append;
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, Result, body};

/// `sizeof(struct tcmsg)`.
const HEADER_LEN: usize = 20;
/// `ffff:`, the handle of the ingress hook.
const INGRESS: TcHandle = TcHandle { major: u16::MAX, minor: 0 };
/// The preference that the redirection gets; the lowest is looked at first.
const PREFERENCE: u32 = 1;
/// `ETH_P_ALL` (`linux/if_ether.h`).
const EVERY_PROTOCOL: u16 = 3;

/// `TCA_*` (`linux/rtnetlink.h`).
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// `TCA_TBF_*` (`linux/pkt_sched.h`).
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`.
const ETHERNET: u8 = 1;
/// `TCA_U32_*` (`linux/pkt_cls.h`).
const U32_CLASSID: u16 = 1;
const U32_SEL: u16 = 5;
const U32_ACT: u16 = 7;
/// `TC_U32_TERMINAL`.
const TERMINAL: u8 = 1;
/// `TCA_ACT_*`.
const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
/// `TCA_MIRRED_PARMS` (`linux/tc_act/tc_mirred.h`).
const MIRRED_PARMS: u16 = 2;
/// `TCA_EGRESS_REDIR`, `TC_ACT_STOLEN`.
const EGRESS_REDIRECT: i32 = 1;
const STOLEN: i32 = 4;

/// A token bucket filter, in the kernel's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tbf {
    /// Bytes per second.
    pub rate: u64,
    /// The bucket: bytes that may leave at once. What is longer than this cannot pass at all.
    pub burst: u32,
    /// Bytes that may wait; what is more is dropped.
    pub limit: u32,
    /// The bucket as the time that filling it takes, in ticks of the packet scheduler's [`Clock`].
    pub buffer: u32,
}

impl Tbf {
    /// What `tc qdisc add … tbf rate RATE burst BURST latency LATENCY` asks for. `rate` is in bytes per second and at least
    /// one, `burst` in bytes, `latency_us` the longest time that a packet may wait, in microseconds.
    pub fn new(clock: Clock, rate: u64, burst: u32, latency_us: u32) -> Self {
        let rate = rate.max(1);
        let waiting = u128::from(rate) * u128::from(latency_us) / 1_000_000;
        Self {
            rate,
            burst,
            limit: u32::try_from(waiting + u128::from(burst)).unwrap_or(u32::MAX),
            buffer: clock.ticks(burst, rate),
        }
    }

    fn options(&self) -> Vec<u8> {
        let narrow = u32::try_from(self.rate).unwrap_or(u32::MAX);
        // struct tc_tbf_qopt: two struct tc_ratespec (rate, and the peak rate, which is none), limit, buffer, mtu.
        let mut parms = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
        parms.extend(narrow.to_ne_bytes());
        parms.extend([0; 12]);
        for value in [self.limit, self.buffer, 0] {
            parms.extend(value.to_ne_bytes());
        }
        let mut options = attribute(TBF_PARMS, &parms);
        options.extend(attribute(TBF_BURST, &self.burst.to_ne_bytes()));
        if self.rate > u64::from(u32::MAX) {
            options.extend(attribute(TBF_RATE64, &self.rate.to_ne_bytes()));
        }
        options
    }
}

/// A token bucket filter as the kernel tells of it. It tells the bucket only as time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenTbf {
    /// As in [`Tbf`].
    pub rate: u64,
    /// As in [`Tbf`].
    pub limit: u32,
    /// As in [`Tbf`].
    pub buffer: u32,
}

impl SeenTbf {
    fn read(options: &[u8]) -> Option<Self> {
        let mut seen = None;
        let mut wide = None;
        for (kind, value) in attributes(options) {
            match kind {
                TBF_PARMS => {
                    let at = |offset: usize| parse_u32(value.get(offset..offset + 4)?).ok();
                    seen = Some(Self { rate: at(8)?.into(), limit: at(24)?, buffer: at(28)? });
                }
                TBF_RATE64 => wide = parse_u64(value).ok(),
                _ => {}
            }
        }
        seen.map(|seen| Self { rate: wide.unwrap_or(seen.rate), ..seen })
    }

    /// Whether this is what `wanted` makes. The kernel keeps the bucket as nanoseconds, so its answer in ticks may be
    /// one less.
    pub fn is(&self, wanted: &Tbf) -> bool {
        self.rate == wanted.rate
            && self.limit == wanted.limit
            && self.buffer.abs_diff(wanted.buffer) <= 1
    }
}

/// A queueing discipline of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// The link.
    pub index: u32,
    /// `tbf`, `ingress`, `noqueue`, …
    pub kind: String,
    /// Its handle, major and minor number: `0x0001_0000` is `1:`. 0 for the one that the kernel chose itself.
    pub handle: u32,
    /// Whether it is at the root, where everything passes that the link sends.
    pub root: bool,
    /// What it is set to, if it is a token bucket filter.
    pub tbf: Option<SeenTbf>,
}

impl Qdisc {
    fn read(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let header = header(bytes)?;
        let mut qdisc = Self {
            index: header.index,
            kind: String::new(),
            handle: header.handle,
            root: header.parent == u32::from(TcHandle::ROOT),
            tbf: None,
        };
        for (kind, value) in attributes(body(bytes, HEADER_LEN)?) {
            match kind {
                TCA_KIND => qdisc.kind = parse_string(value).unwrap_or_default(),
                // The kernel writes the kind first.
                TCA_OPTIONS if qdisc.kind == "tbf" => qdisc.tbf = SeenTbf::read(value),
                _ => {}
            }
        }
        Ok(qdisc)
    }
}

/// The part of `struct tcmsg` that we use.
struct Header {
    index: u32,
    handle: u32,
    parent: u32,
}

fn header(bytes: &[u8]) -> std::result::Result<Header, Malformed> {
    let at = |offset: usize| bytes.get(offset..offset + 4).and_then(|value| parse_u32(value).ok());
    match (at(4), at(8), at(12)) {
        (Some(index), Some(handle), Some(parent)) if bytes.len() >= HEADER_LEN => {
            Ok(Header { index, handle, parent })
        }
        _ => Err(Malformed(format!("{} bytes instead of {HEADER_LEN}", bytes.len()))),
    }
}

impl Netlink {
    /// The queueing disciplines of a link.
    pub fn qdiscs(&mut self, index: u32) -> Result<Vec<Qdisc>> {
        // The kernel lists every link's; it knows no filter.
        let message = RouteNetlinkMessage::GetQueueDiscipline(about(0));
        self.list("list queueing disciplines", message, |bytes| {
            let qdisc = Qdisc::read(bytes)?;
            Ok(Some(qdisc).filter(|qdisc| qdisc.index == index))
        })
    }

    /// Puts a token bucket filter at the root of a link, with the handle `1:`. `EEXIST` when there is another one.
    pub fn add_tbf(&mut self, index: u32, tbf: &Tbf) -> Result<()> {
        let mut message = about(index);
        message.header.parent = TcHandle::ROOT;
        message.header.handle = TcHandle { major: 1, minor: 0 };
        message.attributes = kind_and_options("tbf", &tbf.options());
        self.change(
            "limit the rate of",
            format_args!("link {index}"),
            RouteNetlinkMessage::NewQueueDiscipline(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Takes the queueing discipline at the root of a link away; the kernel's own comes back.
    pub fn delete_root_qdisc(&mut self, index: u32) -> Result<()> {
        let mut message = about(index);
        message.header.parent = TcHandle::ROOT;
        self.change(
            "remove the queueing discipline of",
            format_args!("link {index}"),
            RouteNetlinkMessage::DelQueueDiscipline(message),
            0,
        )
    }

    /// Gives a link the hook (`ffff:`) for filters of what comes in.
    pub fn add_ingress(&mut self, index: u32) -> Result<()> {
        self.change(
            "add the ingress hook of",
            format_args!("link {index}"),
            RouteNetlinkMessage::NewQueueDiscipline(ingress(index)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Takes the hook for filters of what comes in away, with its filters.
    pub fn delete_ingress(&mut self, index: u32) -> Result<()> {
        self.change(
            "remove the ingress hook of",
            format_args!("link {index}"),
            RouteNetlinkMessage::DelQueueDiscipline(ingress(index)),
            0,
        )
    }

    /// Redirects everything that comes in on a link, which has the hook, so that the link `to` sends it.
    pub fn redirect_ingress(&mut self, index: u32, to: u32) -> Result<()> {
        let mut message = filter(index);
        message.attributes = kind_and_options("u32", &redirect(to));
        self.change(
            "redirect what comes in on",
            format_args!("link {index} to link {to}"),
            RouteNetlinkMessage::NewTrafficFilter(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// The links to which the filters at the ingress hook of a link redirect everything. Empty when it has no hook.
    pub fn ingress_redirects(&mut self, index: u32) -> Result<Vec<u32>> {
        let filters = self.ingress_filters(index)?;
        Ok(filters.into_iter().flatten().collect())
    }

    /// Whether there is any filter, of whatever kind, at the ingress hook of a link.
    pub fn has_ingress_filters(&mut self, index: u32) -> Result<bool> {
        Ok(!self.ingress_filters(index)?.is_empty())
    }

    /// Every filter at the ingress hook, and parts of filters: to which link it redirects everything, if it does.
    fn ingress_filters(&mut self, index: u32) -> Result<Vec<Option<u32>>> {
        let mut message = about(index);
        message.header.parent = INGRESS;
        let message = RouteNetlinkMessage::GetTrafficFilter(message);
        self.list("list filters", message, |bytes| Ok(Some(redirects(body(bytes, HEADER_LEN)?))))
    }
}

fn about(index: u32) -> TcMessage {
    // The kernel's type for an index is signed; its indices are not negative.
    TcMessage::with_index(index.cast_signed())
}

fn ingress(index: u32) -> TcMessage {
    let mut message = about(index);
    message.header.parent = TcHandle::INGRESS;
    message.header.handle = INGRESS;
    message.attributes = vec![TcAttribute::Kind("ingress".into())];
    message
}

fn filter(index: u32) -> TcMessage {
    let mut message = about(index);
    message.header.parent = INGRESS;
    message.header.info = PREFERENCE << 16 | u32::from(EVERY_PROTOCOL.to_be());
    message
}

fn kind_and_options(kind: &str, options: &[u8]) -> Vec<TcAttribute> {
    vec![
        TcAttribute::Kind(kind.into()),
        TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options.into())),
    ]
}

/// The options of a `u32` filter that matches every packet and sends it out by the link `to`.
fn redirect(to: u32) -> Vec<u8> {
    // struct tc_mirred: index, capabilities, action, two counters, what to do, to which link.
    let parms: Vec<u8> = [0, 0, STOLEN, 0, 0, EGRESS_REDIRECT, to.cast_signed()]
        .into_iter()
        .flat_map(i32::to_ne_bytes)
        .collect();
    let mut action = attribute(ACT_KIND, b"mirred\0");
    action.extend(attribute(ACT_OPTIONS, &attribute(MIRRED_PARMS, &parms)));
    // struct tc_u32_sel with one struct tc_u32_key: no bit of the first word is looked at.
    let mut selector = [0_u8; 32];
    selector[0] = TERMINAL;
    selector[2] = 1;
    let mut options = attribute(U32_CLASSID, &0x0001_0001_u32.to_ne_bytes());
    options.extend(attribute(U32_SEL, &selector));
    options.extend(attribute(U32_ACT, &attribute(1, &action)));
    options
}

/// The link that a filter redirects to, if it is a `u32` one that redirects everything.
fn redirects(filter: &[u8]) -> Option<u32> {
    let options = attributes(filter).find(|(kind, _)| *kind == TCA_OPTIONS)?.1;
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
    let selector: &[u8] = find(options, U32_SEL)?;
    // The mask of the only key.
    if selector.get(2) != Some(&1) || selector.get(16..20)? != [0; 4] {
        return None;
    }
    let actions = find(options, U32_ACT)?;
    let (_, action) = attributes(actions).next()?;
    if parse_string(find(action, ACT_KIND)?).ok()? != "mirred" {
        return None;
    }
    let parms = find(find(action, ACT_OPTIONS)?, MIRRED_PARMS)?;
    if parse_i32(parms.get(20..24)?).ok()? != EGRESS_REDIRECT {
        return None;
    }
    parse_u32(parms.get(24..28)?).ok()
}

/// One netlink attribute.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len().next_multiple_of(4));
    append(&mut bytes, kind, value);
    bytes
}
