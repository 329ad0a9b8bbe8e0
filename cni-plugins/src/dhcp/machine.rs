//! The client's side of DHCP as a state machine (RFC 2131, section 4.4): a pure function of state and event to state and
//! actions.
//!
//! ```text
//!            acquire                       verify (INIT-REBOOT)
//!               |                             |
//!   NAK     +-> Selecting <---- NAK ------ Rebooting --- no answer ---+
//!   or no   |      | OFFER                    | ACK                   |
//!   answer  |      v                          v                       |
//!           +-- Requesting --- ACK ------> Bound <--------------------+
//!                                           | T1    ^ ACK
//!                                           v       |
//!               Selecting <---- NAK ---- Renewing --+
//!                                           | T2    ^ ACK
//!                                           v       |
//!               Selecting <---- NAK ---- Rebinding -+
//!                                           | the lease ends
//!                                           v
//!                                         Ended
//! ```
//!
//! Nobody can give a running container another address. After a NAK, and after a lease has ended while nobody looked after it,
//! the client therefore asks for the very same address, and if it does not get it within one exchange, the lease is lost: the
//! link is set down.

mod timing;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use netns_tools::MacAddr;

use super::lease::{Lease, Time};
use super::message::{Kind, Message, Options, code};
pub use timing::Timing;

/// The largest message that is taken: an Ethernet frame's.
const MAX_SIZE: u16 = 1500;

/// What does not change while a lease lasts.
#[derive(Clone, Debug)]
pub struct Params {
    /// The interface's Ethernet address.
    pub chaddr: MacAddr,
    /// Options that go into every question, the client identifier among them.
    pub provide: Options,
    /// Options that servers are asked for.
    pub request: Vec<u8>,
    /// Answers are to be broadcast.
    pub broadcast: bool,
    /// How long to wait for what.
    pub timing: Timing,
}

/// Everything about the moment at which something happens.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time.
    pub now: Time,
    /// A random number.
    pub random: u64,
}

/// The state of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Servers were asked for an offer.
    Selecting(Attempt, Quest),
    /// An offer was accepted.
    Requesting(Attempt, Quest, Offer),
    /// A lease of before a restart is to be confirmed.
    Rebooting(Attempt, Lease),
    /// There is a lease and nothing to do until then.
    Bound(Lease, Option<Time>),
    /// The lease's server was asked for more time.
    Renewing(Attempt, Lease),
    /// Every server was.
    Rebinding(Attempt, Lease),
    /// It is over.
    Ended,
}

/// One exchange of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What the answer will bear.
    pub xid: u32,
    /// When the exchange began.
    pub begun: Time,
    /// How many messages were sent without success.
    pub sends: u32,
    /// When to do something if there is no answer.
    pub due: Time,
    /// When to give the exchange up.
    pub until: Time,
}

/// What an address is looked for for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quest {
    /// `Some`: for a container that runs with this one.
    pub again: Option<Lease>,
    /// When to give up.
    pub give_up: Time,
}

/// An offer that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The address.
    pub address: Ipv4Addr,
    /// The server that offers it.
    pub server: Ipv4Addr,
    /// The Ethernet address that the offer came from.
    pub via: MacAddr,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// The state's [`State::deadline`] has come.
    Due,
    /// A message came, from this Ethernet address.
    Received(Message, MacAddr),
    /// The lease is not needed any more.
    Release,
    /// The interface or its namespace is gone.
    Vanished,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message.
    Send(Message, To),
    /// There is a lease, or it has more time: keep it and tell whoever waits.
    Hold(Lease),
    /// There will be no lease, for this reason.
    Fail(Failure),
    /// The lease is lost, for this reason: the address may not be used any more.
    Lose(&'static str),
    /// The lease was given back, or ended with its interface.
    Forget,
    /// Worth a line in the log.
    Note(&'static str),
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// To all servers.
    All,
    /// To one, through this Ethernet address.
    Server(Ipv4Addr, MacAddr),
}

/// Why there is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No server answered, or none in the end.
    NoAnswer,
    /// The server granted an address without the mask of its network.
    NoSubnetMask,
    /// It was asked to stop.
    Stopped,
}

type Step = (State, Vec<Action>);

impl State {
    /// When [`Event::Due`] happens.
    pub fn deadline(&self) -> Option<Time> {
        match self {
            Self::Selecting(attempt, _)
            | Self::Requesting(attempt, ..)
            | Self::Rebooting(attempt, _)
            | Self::Renewing(attempt, _)
            | Self::Rebinding(attempt, _) => Some(attempt.due),
            Self::Bound(_, wake) => *wake,
            Self::Ended => None,
        }
    }

    /// Whether an answer is awaited.
    pub fn is_waiting(&self) -> bool {
        !matches!(self, Self::Bound(..) | Self::Ended)
    }

    fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Selecting(attempt, _)
            | Self::Requesting(attempt, ..)
            | Self::Rebooting(attempt, _)
            | Self::Renewing(attempt, _)
            | Self::Rebinding(attempt, _) => Some(attempt),
            Self::Bound(..) | Self::Ended => None,
        }
    }
}

/// Begins to look for an address.
pub fn acquire(params: &Params, moment: Moment) -> Step {
    let give_up = moment.now + params.timing.resend_timeout;
    select(Quest { again: None, give_up }, 0, params, moment)
}

/// Goes on with a lease of before a restart.
pub fn verify(lease: Lease, params: &Params, moment: Moment) -> Step {
    if lease.has_ended(moment.now) {
        return select_again(lease, params, moment);
    }
    let attempt = params.begin(moment, moment.now + params.timing.timeout, 0);
    let message = params.question(Kind::Request, &attempt, moment.now);
    let message = with_address(message, code::REQUESTED_ADDRESS, lease.address);
    (State::Rebooting(attempt, lease), vec![Action::Send(message, To::All)])
}

/// What an event makes of a state.
pub fn step(state: State, event: Event, params: &Params, moment: Moment) -> Step {
    match event {
        Event::Due => due(state, params, moment),
        Event::Received(message, via) => received(state, &message, via, params, moment),
        Event::Release => release(state, params, moment),
        Event::Vanished => (State::Ended, vec![Action::Forget]),
    }
}

fn due(state: State, params: &Params, moment: Moment) -> Step {
    let now = moment.now;
    match state {
        State::Selecting(_, quest) if now >= quest.give_up => give_up(&quest),
        State::Selecting(attempt, quest) => {
            let attempt = params.resend(&attempt, moment);
            let message = discover(&attempt, &quest, params, now);
            (State::Selecting(attempt, quest), vec![Action::Send(message, To::All)])
        }
        State::Requesting(attempt, quest, _) if now >= attempt.until => {
            select(quest, attempt.sends, params, moment)
        }
        State::Requesting(attempt, quest, offer) => {
            let attempt = params.resend(&attempt, moment);
            let message = accept(&attempt, &offer, params, now);
            (State::Requesting(attempt, quest, offer), vec![Action::Send(message, To::All)])
        }
        State::Rebooting(attempt, lease) if now >= attempt.until => unconfirmed(lease, moment),
        State::Rebooting(attempt, lease) => {
            let attempt = params.resend(&attempt, moment);
            let message = params.question(Kind::Request, &attempt, now);
            let message = with_address(message, code::REQUESTED_ADDRESS, lease.address);
            (State::Rebooting(attempt, lease), vec![Action::Send(message, To::All)])
        }
        State::Bound(lease, _) | State::Renewing(_, lease) | State::Rebinding(_, lease)
            if lease.times.is_none() =>
        {
            (State::Bound(lease, None), Vec::new())
        }
        State::Bound(lease, _) if lease.has_ended(now) => select_again(lease, params, moment),
        State::Bound(lease, _) => extend(None, lease, params, moment),
        State::Renewing(attempt, lease) | State::Rebinding(attempt, lease) => {
            extend(Some(attempt), lease, params, moment)
        }
        State::Ended => (State::Ended, Vec::new()),
    }
}

fn give_up(quest: &Quest) -> Step {
    let action = match quest.again {
        None => Action::Fail(Failure::NoAnswer),
        Some(_) => Action::Lose("no server gives the same address again"),
    };
    (State::Ended, vec![action])
}

/// No server confirmed a lease: it holds as long as it was granted (RFC 2131, section 3.2).
fn unconfirmed(lease: Lease, moment: Moment) -> Step {
    let note =
        Action::Note("no server confirmed the lease after the restart; it holds until its end");
    (bound(lease, moment), vec![note])
}

/// Asks for more time: the lease's server until T2, all servers until the end.
fn extend(attempt: Option<Attempt>, lease: Lease, params: &Params, moment: Moment) -> Step {
    let now = moment.now;
    let Some(times) = lease.times else { return (State::Bound(lease, None), Vec::new()) };
    if now >= times.end {
        return (State::Ended, vec![Action::Lose("no server gave it more time")]);
    }
    let rebinding = now >= times.rebind;
    let until = if rebinding { times.end } else { times.rebind };
    let same = attempt.filter(|attempt| attempt.until == until);
    let mut attempt = same.unwrap_or_else(|| params.begin(moment, until, 0));
    attempt.sends += 1;
    attempt.due = (now + params.timing.until_next_renewal(until - now)).min(until);
    let mut message = params.question(Kind::Request, &attempt, now);
    message.ciaddr = lease.address;
    message.broadcast = false;
    if rebinding {
        return (State::Rebinding(attempt, lease), vec![Action::Send(message, To::All)]);
    }
    let to = To::Server(lease.server, lease.via);
    (State::Renewing(attempt, lease), vec![Action::Send(message, to)])
}

fn received(
    state: State,
    message: &Message,
    via: MacAddr,
    params: &Params,
    moment: Moment,
) -> Step {
    let ours = message.reply
        && message.chaddr == params.chaddr
        && state.attempt().is_some_and(|attempt| attempt.xid == message.xid);
    let Some(kind) = message.kind().filter(|_| ours) else { return (state, Vec::new()) };
    match (state, kind) {
        (State::Selecting(attempt, quest), Kind::Offer) => {
            offered(attempt, quest, message, via, params, moment)
        }
        (State::Requesting(attempt, quest, offer), Kind::Ack) if offer.is_from(message) => {
            acknowledged(&attempt, quest, message, via, params, moment)
        }
        (State::Requesting(attempt, quest, offer), Kind::Nak) if offer.is_from(message) => {
            let attempt = params.later(&attempt, moment, quest.give_up);
            (
                State::Selecting(attempt, quest),
                vec![Action::Note("the server refused its own offer")],
            )
        }
        (
            State::Rebooting(attempt, lease)
            | State::Renewing(attempt, lease)
            | State::Rebinding(attempt, lease),
            Kind::Ack,
        ) if message.yiaddr == lease.address => {
            let lease = Lease::granted(message, via, attempt.begun, Some(&lease));
            (bound(lease.clone(), moment), vec![Action::Hold(lease)])
        }
        (
            State::Rebooting(_, lease) | State::Renewing(_, lease) | State::Rebinding(_, lease),
            Kind::Nak,
        ) => select_again(lease, params, moment),
        (state, _) => (state, Vec::new()),
    }
}

fn offered(
    attempt: Attempt,
    quest: Quest,
    message: &Message,
    via: MacAddr,
    params: &Params,
    moment: Moment,
) -> Step {
    let usable = !message.yiaddr.is_unspecified()
        && quest.again.as_ref().is_none_or(|lease| lease.address == message.yiaddr);
    let Some(server) = message.address(code::SERVER).filter(|_| usable) else {
        return (State::Selecting(attempt, quest), Vec::new());
    };
    let offer = Offer { address: message.yiaddr, server, via };
    let until = (moment.now + params.timing.timeout).min(quest.give_up);
    let mut next = params.begin(moment, until, attempt.sends);
    next.xid = attempt.xid;
    let message = accept(&next, &offer, params, moment.now);
    (State::Requesting(next, quest, offer), vec![Action::Send(message, To::All)])
}

fn acknowledged(
    attempt: &Attempt,
    quest: Quest,
    message: &Message,
    via: MacAddr,
    params: &Params,
    moment: Moment,
) -> Step {
    let lease = Lease::granted(message, via, attempt.begun, None);
    let give_back =
        |lease| Action::Send(farewell(lease, params, moment), To::Server(lease.server, lease.via));
    if quest.again.is_some_and(|before| before.address != lease.address) {
        let lost = Action::Lose("the server gave another address instead");
        return (State::Ended, vec![give_back(&lease), lost]);
    }
    if lease.prefix().is_none() {
        return (State::Ended, vec![give_back(&lease), Action::Fail(Failure::NoSubnetMask)]);
    }
    (bound(lease.clone(), moment), vec![Action::Hold(lease)])
}

fn release(state: State, params: &Params, moment: Moment) -> Step {
    let lease = match state {
        State::Rebooting(_, lease)
        | State::Bound(lease, _)
        | State::Renewing(_, lease)
        | State::Rebinding(_, lease) => lease,
        State::Requesting(attempt, _, offer) => {
            // The server may have granted it by now.
            let message = Message {
                yiaddr: offer.address,
                ..params.question(Kind::Ack, &attempt, moment.now)
            };
            let message = with_address(message, code::SERVER, offer.server);
            let lease = Lease::granted(&message, offer.via, moment.now, None);
            let message = farewell(&lease, params, moment);
            let send = Action::Send(message, To::Server(lease.server, lease.via));
            return (State::Ended, vec![send, Action::Fail(Failure::Stopped)]);
        }
        State::Selecting(_, Quest { again: None, .. }) => {
            return (State::Ended, vec![Action::Fail(Failure::Stopped)]);
        }
        // No server has granted it to us at present.
        State::Selecting(..) | State::Ended => return (State::Ended, vec![Action::Forget]),
    };
    let send = Action::Send(farewell(&lease, params, moment), To::Server(lease.server, lease.via));
    (State::Ended, vec![send, Action::Forget])
}

/// Waits for T1, a little less than that: those that were started together need not ask together for ever.
fn bound(lease: Lease, moment: Moment) -> State {
    let wake = lease.times.map(|times| {
        let fuzz = times.renew.saturating_sub(moment.now) / 32;
        times.renew - (moment.random & 0xffff_ffff) % (fuzz + 1)
    });
    State::Bound(lease, wake)
}

fn select_again(lease: Lease, params: &Params, moment: Moment) -> Step {
    let give_up = moment.now + params.timing.timeout;
    let (state, mut actions) = select(Quest { again: Some(lease), give_up }, 0, params, moment);
    actions.insert(0, Action::Note("the lease does not hold; asking for the same address again"));
    (state, actions)
}

fn select(quest: Quest, sends: u32, params: &Params, moment: Moment) -> Step {
    if moment.now >= quest.give_up {
        return give_up(&quest);
    }
    let attempt = params.begin(moment, quest.give_up, sends);
    let message = discover(&attempt, &quest, params, moment.now);
    (State::Selecting(attempt, quest), vec![Action::Send(message, To::All)])
}

fn discover(attempt: &Attempt, quest: &Quest, params: &Params, now: Time) -> Message {
    let message = params.question(Kind::Discover, attempt, now);
    match &quest.again {
        Some(lease) => with_address(message, code::REQUESTED_ADDRESS, lease.address),
        None => message,
    }
}

fn accept(attempt: &Attempt, offer: &Offer, params: &Params, now: Time) -> Message {
    let message = params.question(Kind::Request, attempt, now);
    let message = with_address(message, code::REQUESTED_ADDRESS, offer.address);
    with_address(message, code::SERVER, offer.server)
}

/// DHCPRELEASE, which nobody answers. It bears nothing but who speaks of what.
fn farewell(lease: &Lease, params: &Params, moment: Moment) -> Message {
    let attempt = params.begin(moment, moment.now, 0);
    let mut message = params.question(Kind::Release, &attempt, moment.now);
    message.options.retain(|option, _| matches!(*option, code::MESSAGE_TYPE | code::CLIENT_ID));
    message.ciaddr = lease.address;
    message.broadcast = false;
    with_address(message, code::SERVER, lease.server)
}

fn with_address(mut message: Message, option: u8, address: Ipv4Addr) -> Message {
    message.options.insert(option, address.octets().to_vec());
    message
}

impl Offer {
    fn is_from(&self, message: &Message) -> bool {
        message.address(code::SERVER).is_none_or(|server| server == self.server)
    }
}

impl Params {
    /// A new exchange, after so many messages without success, whose first message is sent now.
    fn begin(&self, moment: Moment, until: Time, sends: u32) -> Attempt {
        let sends = sends + 1;
        let due = (moment.now + self.timing.pause(sends, moment.random)).min(until);
        // The lower half makes the pause.
        let xid = u32::try_from(moment.random >> 32).unwrap_or_default();
        Attempt { xid, begun: moment.now, sends, due, until }
    }

    /// The same exchange, whose message is sent once more.
    fn resend(&self, attempt: &Attempt, moment: Moment) -> Attempt {
        let Attempt { xid, begun, until, .. } = *attempt;
        Attempt { xid, begun, ..self.begin(moment, until, attempt.sends) }
    }

    /// A new exchange whose first message waits for its turn.
    fn later(&self, attempt: &Attempt, moment: Moment, until: Time) -> Attempt {
        self.begin(moment, until, attempt.sends)
    }

    fn question(&self, kind: Kind, attempt: &Attempt, now: Time) -> Message {
        let mut options = self.provide.clone();
        options.insert(code::MESSAGE_TYPE, vec![kind.number()]);
        options.insert(code::MAX_SIZE, MAX_SIZE.to_be_bytes().to_vec());
        if !self.request.is_empty() {
            options.insert(code::PARAMETERS, self.request.clone());
        }
        Message {
            reply: false,
            xid: attempt.xid,
            secs: u16::try_from(now.saturating_sub(attempt.begun) / 1000).unwrap_or(u16::MAX),
            broadcast: self.broadcast,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: self.chaddr,
            options,
        }
    }
}
