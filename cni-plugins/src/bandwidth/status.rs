//! STATUS of `bandwidth`: whether the kernel can shape traffic, tried out in a network namespace of its own.

use cni::Error;
use netns_tools::link::ifb::Ifb;
use netns_tools::qdisc::{Clock, Tbf};
use netns_tools::{NetNs, Netlink, NetlinkError, cause};

use crate::readiness::not_available;

const DEVICE: &str = "bwprobe";

/// Does what ADD does, where nobody sees it.
pub fn status() -> Result<(), Error> {
    let clock = Clock::read().map_err(|e| unavailable("has no packet scheduler", &e))?;
    let tried = NetNs::scratch(|| try_out(clock));
    tried.map_err(|e| unavailable("does not let us make a network namespace to try in", &e))?
}

fn try_out(clock: Clock) -> Result<(), Error> {
    let ask = |what: &'static str| move |e: NetlinkError| unavailable(what, &e);
    let mut net = Netlink::open().map_err(ask("does not answer"))?;
    let ifb = Ifb { name: DEVICE, mtu: 1500, queue_length: 0 };
    net.add_ifb(&ifb).map_err(ask("has no ifb devices (CONFIG_IFB)"))?;
    let link = net.link(DEVICE).map_err(ask("does not answer"))?;
    let index = link.map_or(0, |link| link.index);
    let tbf = Tbf::new(clock, 1_000_000, 100_000, 1000);
    net.add_tbf(index, &tbf).map_err(ask("has no token bucket filter (CONFIG_NET_SCH_TBF)"))?;
    net.add_ingress(index).map_err(ask("has no ingress hook (CONFIG_NET_SCH_INGRESS)"))?;
    // To itself: nothing is ever sent here.
    net.redirect_ingress(index, index).map_err(ask(
        "cannot redirect packets (CONFIG_NET_CLS_U32, CONFIG_NET_CLS_ACT, CONFIG_NET_ACT_MIRRED)",
    ))
}

fn unavailable(what: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    let msg = format!("bandwidth cannot limit anything: the kernel {what}");
    not_available(msg, cause::one_line(error))
}
