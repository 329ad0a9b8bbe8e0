//! The kinds of objects that the proxy follows.

use std::convert::Infallible;

use k8s_openapi::api::core::v1::{Node as NodeObject, Service as ServiceObject};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::names::Names;
use crate::kube::{Kind, key};
use crate::proxy::model::{Event, Node, Refused, Service, ServiceName, Slice};

/// What stays while the API is away.
const STAYS: &str = "the rules";

/// Services.
#[derive(Debug, Default)]
pub struct Services {
    names: Names,
}

impl Kind for Services {
    type Object = ServiceObject;
    type Item = Service;
    type Event = Event;
    type Refused = Refused;
    const STAYS: &'static str = STAYS;
    const NAME: &'static str = "Service";

    fn convert(&mut self, object: &ServiceObject) -> Result<Option<Service>, Refused> {
        let mut service = Service::of(object)?;
        for port in service.iter_mut().flat_map(|service| &mut service.ports) {
            self.names.share(&mut port.name);
        }
        Ok(service)
    }

    fn present(&mut self, item: Service) -> Option<Event> {
        Some(Event::Service(item))
    }

    fn absent(&mut self, object: &ServiceObject) -> Option<Event> {
        Some(Event::NoService(ServiceName::from_key(&key(object))))
    }

    fn all(&mut self, items: Vec<Service>) -> Event {
        Event::AllServices(items)
    }
}

/// `EndpointSlices`.
#[derive(Debug, Default)]
pub struct Slices {
    names: Names,
}

impl Slices {
    fn share(&mut self, slice: &mut Slice) {
        for port in &mut slice.ports {
            self.names.share(&mut port.name);
        }
        for endpoint in &mut slice.endpoints {
            let hints = endpoint.for_zones.iter_mut().chain(&mut endpoint.for_nodes);
            endpoint.node.iter_mut().chain(hints).for_each(|name| self.names.share(name));
        }
    }
}

impl Kind for Slices {
    type Object = EndpointSlice;
    type Item = Slice;
    type Event = Event;
    type Refused = Infallible;
    const STAYS: &'static str = STAYS;
    const NAME: &'static str = "EndpointSlice";

    fn convert(&mut self, object: &EndpointSlice) -> Result<Option<Slice>, Infallible> {
        let mut slice = Slice::of(object);
        if let Some(slice) = &mut slice {
            self.share(slice);
        }
        Ok(slice)
    }

    fn present(&mut self, item: Slice) -> Option<Event> {
        Some(Event::Slice(item))
    }

    /// The label may have changed with the very event that makes the slice nobody's, so the service is not told by it: the model
    /// finds it by the slice's name.
    fn absent(&mut self, object: &EndpointSlice) -> Option<Event> {
        Some(Event::NoSlice { name: key(object), service: None })
    }

    fn all(&mut self, items: Vec<Slice>) -> Event {
        Event::AllSlices(items)
    }
}

/// This Node alone. One that is not there yet is known by its name; one that was removed is as it was, until there is another: this
/// machine still has its addresses and its zone, and pods that run here still serve.
#[derive(Debug)]
pub struct Nodes {
    name: Box<str>,
    last: Option<Node>,
    /// That there is none was told.
    missed: bool,
}

impl Nodes {
    /// The node of that name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), last: None, missed: false }
    }

    /// There is none: told once, until there is one again.
    fn miss(&mut self) {
        let node = &*self.name;
        match (std::mem::replace(&mut self.missed, true), &self.last) {
            (true, _) => {}
            (false, None) => {
                tracing::warn!(
                    node,
                    "there is no Node of this name: its zone and addresses are not known"
                );
            }
            (false, Some(_)) => {
                tracing::warn!(
                    node,
                    "this Node was removed from the API: its zone and addresses stay as they were, and its services go on; if that was not \
                     meant, have the kubelet register it again"
                );
            }
        }
    }
}

impl Kind for Nodes {
    type Object = NodeObject;
    type Item = Node;
    type Event = Event;
    type Refused = Infallible;
    const STAYS: &'static str = STAYS;
    const NAME: &'static str = "Node";

    fn convert(&mut self, object: &NodeObject) -> Result<Option<Node>, Infallible> {
        // a server that does not know field selectors tells of every node
        let is_this = object.metadata.name.as_deref() == Some(&*self.name);
        Ok(is_this.then(|| Node::of(object)))
    }

    fn present(&mut self, item: Node) -> Option<Event> {
        self.missed = false;
        self.last = Some(item.clone());
        Some(Event::Node(item))
    }

    fn absent(&mut self, object: &NodeObject) -> Option<Event> {
        // others come by here too, from a server that does not know field selectors
        if object.metadata.name.as_deref() == Some(&*self.name) {
            self.miss();
        }
        None
    }

    fn all(&mut self, items: Vec<Node>) -> Event {
        match items.into_iter().next() {
            Some(found) => {
                self.missed = false;
                self.last = Some(found);
            }
            None => self.miss(),
        }
        Event::Node(self.last.clone().unwrap_or_else(|| Node::named(&self.name)))
    }

    fn forbidden(&self) -> Option<Event> {
        let node = self.last.clone().unwrap_or_else(|| Node::named(&self.name));
        Some(Event::Node(node))
    }
}
