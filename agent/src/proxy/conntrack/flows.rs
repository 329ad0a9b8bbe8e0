//! The kernel's tracked connections, as the decisions need them.

use std::net::IpAddr;

use netns_tools::conntrack::{Filter, Flow};
use netns_tools::netns::NetNs;
use netns_tools::{Conntrack, Netlink, NetlinkError};

/// Whoever tracks connections.
pub trait Flows: Send {
    /// The flows that `filter` lets through and that are `wanted`.
    fn list(
        &mut self,
        filter: &Filter,
        wanted: &dyn Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>, NetlinkError>;

    /// Forgets one. `false`: it was gone already.
    fn delete(&mut self, flow: &Flow) -> Result<bool, NetlinkError>;

    /// Whether packets to an address end at this host.
    fn is_local(&mut self, address: IpAddr) -> Result<bool, NetlinkError>;
}

/// The kernel's. Its sockets are opened when they are first needed, and again after an error: a node where connection tracking
/// cannot be asked still has its rules.
#[derive(Debug, Default)]
pub struct KernelFlows {
    ns: Option<NetNs>,
    conntrack: Option<Conntrack>,
    routes: Option<Netlink>,
}

impl KernelFlows {
    /// Of the namespace of the thread that uses them first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of another namespace.
    pub fn of(ns: NetNs) -> Self {
        Self { ns: Some(ns), ..Self::default() }
    }

    fn conntrack<T>(
        &mut self,
        work: impl FnOnce(&mut Conntrack) -> Result<T, NetlinkError>,
    ) -> Result<T, NetlinkError> {
        let mut socket = match (self.conntrack.take(), &self.ns) {
            (Some(socket), _) => socket,
            (None, Some(ns)) => Conntrack::open_in(ns)?,
            (None, None) => Conntrack::open()?,
        };
        let done = work(&mut socket)?;
        self.conntrack = Some(socket);
        Ok(done)
    }

    fn routes(&mut self) -> Result<Netlink, NetlinkError> {
        match (self.routes.take(), &self.ns) {
            (Some(socket), _) => Ok(socket),
            (None, Some(ns)) => Netlink::open_in(ns),
            (None, None) => Netlink::open(),
        }
    }
}

impl Flows for KernelFlows {
    fn list(
        &mut self,
        filter: &Filter,
        wanted: &dyn Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>, NetlinkError> {
        self.conntrack(|socket| socket.list_where(filter, wanted))
    }

    fn delete(&mut self, flow: &Flow) -> Result<bool, NetlinkError> {
        self.conntrack(|socket| socket.delete(flow))
    }

    fn is_local(&mut self, address: IpAddr) -> Result<bool, NetlinkError> {
        let mut socket = self.routes()?;
        let local = socket.is_local(address)?;
        self.routes = Some(socket);
        Ok(local)
    }
}
