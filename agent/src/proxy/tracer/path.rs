//! The way of a packet through the hooks of a host.
//!
//! Order and conditions are the kernel's: `ip_rcv`, `ip_local_deliver` (`net/ipv4/ip_input.c`), `ip_forward`, `__ip_local_out`
//! and `ip_output`; translation once per direction is `nf_nat_inet_fn` in `net/netfilter/nf_nat_core.c`.

use std::net::{IpAddr, SocketAddr};

use netns_tools::nftables::Hook;

use super::choices::Choices;
use super::packet::LOOPBACK;
use super::{Arrival, Fate, Host, Memory, Packet, Result, TraceError, Verdict};

/// What the rules of a hook decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The packet goes on.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and the sender is told.
    Reject,
}

/// Rules that packets meet.
pub trait Hooks {
    /// What becomes of a packet at a hook.
    fn run(&self, hook: Hook, flight: &mut Flight<'_>) -> Result<Decision>;
}

/// What was decided about one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    Open,
    Kept,
    Translated,
}

/// A packet on its way.
#[derive(Debug)]
pub struct Flight<'a> {
    /// The host that it meets.
    pub host: &'a Host,
    /// The packet as it is now.
    pub packet: Packet,
    /// The packet as it came.
    pub original: &'a Packet,
    /// The interface that it came in by.
    pub input: Option<String>,
    /// The bridge's port that it came in by.
    pub input_port: Option<String>,
    /// The interface that it will leave by.
    pub output: Option<String>,
    /// Its mark.
    pub mark: u32,
    /// Who was seen.
    pub memory: Memory,
    destination: Binding,
    source: Binding,
    choices: &'a mut Choices,
}

impl Flight<'_> {
    /// A random choice between possibilities of these probabilities.
    pub fn pick(&mut self, weights: &[f64]) -> usize {
        self.choices.pick(weights)
    }

    /// Whether its destination was translated.
    pub fn is_dnat(&self) -> bool {
        self.destination == Binding::Translated
    }

    /// Whether its source was.
    pub fn is_snat(&self) -> bool {
        self.source == Binding::Translated
    }

    /// Whether translating rules are asked at a hook: once for each direction of translation.
    pub fn asks_nat(&self, hook: Hook) -> bool {
        match hook {
            Hook::Prerouting | Hook::Output => self.destination == Binding::Open,
            Hook::Input | Hook::Postrouting => self.source == Binding::Open,
            Hook::Forward => false,
        }
    }

    /// Sends the packet elsewhere.
    pub fn translate_destination(&mut self, to: IpAddr, port: Option<u16>) {
        self.packet.destination = to;
        self.packet.port = port.unwrap_or(self.packet.port);
        self.destination = Binding::Translated;
        if matches!(self.packet.arrival, Arrival::Here) {
            self.output = self.host.route(to).map(str::to_owned);
        }
    }

    /// Makes the packet come from the interface that it leaves by.
    pub fn masquerade(&mut self) -> Result<()> {
        let destination = self.packet.destination;
        let output = self.output.as_deref().unwrap_or_default();
        let source = self.host.address_of(output, destination);
        self.packet.source = source.ok_or_else(|| {
            TraceError::new("masquerade", format!("no address of {output} for {destination}"))
        })?;
        self.source = Binding::Translated;
        Ok(())
    }

    /// What was not translated at the first occasion stays as it is.
    fn bind(&mut self, hook: Hook) {
        let end = match hook {
            Hook::Prerouting | Hook::Output => &mut self.destination,
            Hook::Input | Hook::Postrouting => &mut self.source,
            Hook::Forward => return,
        };
        if *end == Binding::Open {
            *end = Binding::Kept;
        }
    }
}

/// One of the ways that a packet may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// What becomes of it.
    pub fate: Fate,
    /// How probable that is.
    pub probability: f64,
    /// What is remembered then.
    pub memory: Memory,
}

/// Every way that a packet may take, from what is remembered before.
pub fn trace(
    rules: &dyn Hooks,
    host: &Host,
    packet: &Packet,
    memory: &Memory,
) -> Result<Vec<Path>> {
    let (mut choices, mut paths) = (Choices::default(), Vec::new());
    loop {
        let mut flight = start(host, packet, memory, &mut choices);
        let fate = walk(rules, &mut flight)?;
        let memory = std::mem::take(&mut flight.memory);
        paths.push(Path { fate, probability: choices.probability(), memory });
        if !choices.advance() {
            return Ok(paths);
        }
    }
}

impl FromIterator<Path> for Verdict {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Self {
        Self::of(paths.into_iter().map(|path| (path.fate, path.probability)))
    }
}

fn start<'a>(
    host: &'a Host,
    packet: &'a Packet,
    memory: &Memory,
    choices: &'a mut Choices,
) -> Flight<'a> {
    let (input, input_port) = match &packet.arrival {
        Arrival::Here => (None, None),
        Arrival::By { interface, port } => (Some(interface.clone()), port.clone()),
    };
    Flight {
        host,
        packet: packet.clone(),
        original: packet,
        input,
        input_port,
        output: None,
        mark: 0,
        memory: memory.clone(),
        destination: Binding::Open,
        source: Binding::Open,
        choices,
    }
}

fn walk(rules: &dyn Hooks, flight: &mut Flight<'_>) -> Result<Fate> {
    let refused = if matches!(flight.packet.arrival, Arrival::Here) {
        leave(rules, flight)?
    } else {
        arrive(rules, flight)?
    };
    Ok(refused.unwrap_or_else(|| delivered(flight)))
}

/// A packet of a program of this host. One to the host itself comes back by the loopback interface.
fn leave(rules: &dyn Hooks, flight: &mut Flight<'_>) -> Result<Option<Fate>> {
    route(flight)?;
    if let Some(fate) = hook(rules, Hook::Output, flight)? {
        return Ok(Some(fate));
    }
    route(flight)?;
    if let Some(fate) = hook(rules, Hook::Postrouting, flight)? {
        return Ok(Some(fate));
    }
    if flight.output.as_deref() != Some(LOOPBACK) {
        return Ok(None);
    }
    flight.input = flight.output.take();
    arrive(rules, flight)
}

fn arrive(rules: &dyn Hooks, flight: &mut Flight<'_>) -> Result<Option<Fate>> {
    if let Some(fate) = hook(rules, Hook::Prerouting, flight)? {
        return Ok(Some(fate));
    }
    if flight.host.is_local(flight.packet.destination) {
        return hook(rules, Hook::Input, flight);
    }
    route(flight)?;
    for at in [Hook::Forward, Hook::Postrouting] {
        if let Some(fate) = hook(rules, at, flight)? {
            return Ok(Some(fate));
        }
    }
    Ok(None)
}

fn route(flight: &mut Flight<'_>) -> Result<()> {
    let destination = flight.packet.destination;
    let name = flight.host.route(destination);
    let name = name.ok_or_else(|| TraceError::new("routing", format!("no route to {destination}")));
    flight.output = Some(name?.to_owned());
    Ok(())
}

/// `None`: the packet goes on.
fn hook(rules: &dyn Hooks, at: Hook, flight: &mut Flight<'_>) -> Result<Option<Fate>> {
    let decision = rules.run(at, flight)?;
    flight.bind(at);
    Ok(match decision {
        Decision::Accept => None,
        Decision::Drop => Some(Fate::Dropped),
        Decision::Reject => Some(Fate::Rejected),
    })
}

fn delivered(flight: &Flight<'_>) -> Fate {
    let Packet { source, destination, port, .. } = flight.packet;
    if flight.is_dnat() {
        Fate::Endpoint { to: SocketAddr::new(destination, port), source }
    } else {
        Fate::Untouched { source }
    }
}
