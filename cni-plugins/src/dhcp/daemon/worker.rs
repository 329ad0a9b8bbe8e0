//! The thread that looks after one lease: it turns time, packets and orders into the machine's events, and does what the
//! machine says.

use std::io::{PipeReader, Read};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cni::{Error, ErrorCode};
use netns_tools::cause::one_line;
use netns_tools::packet::BROADCAST;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock::{moment, now};
use super::flags::prefixed;
use super::handle::{Handle, Over, Status};
use super::place::{Ear, Place};
use super::store::{Record, Store, numbers};
use super::{clock, log};
use crate::dhcp::datagram;
use crate::dhcp::lease::{Lease, Time};
use crate::dhcp::machine::{self, Action, Event, Failure, Params, State, Timing, To};
use crate::dhcp::message::{Message, code};
use crate::dhcp::rpc::{Allocate, Attachment};

/// How often the interface is looked for, in milliseconds: its end is not announced.
const WATCH: Time = 5000;
/// The longest client identifier is 255 bytes, its type included.
const LONGEST_NAME: usize = 254;

/// What all leases share.
pub struct Context {
    /// The files.
    pub store: Store,
    /// Servers are asked to broadcast.
    pub broadcast: bool,
    /// Before the paths of namespaces.
    pub prefix: Option<PathBuf>,
    /// How long to wait for what.
    pub timing: Timing,
}

/// The thread's own.
pub struct Worker {
    handle: Arc<Handle>,
    wake: PipeReader,
    context: Arc<Context>,
    place: Place,
    params: Params,
    was_down: bool,
    /// Open while an answer is awaited, and only then.
    ear: Option<Ear>,
    state: State,
    /// When the interface is looked for next.
    watch: Time,
    /// The lease was lost: there is nothing to do but to wait for the end of the interface.
    lost: bool,
}

impl Worker {
    /// Sets the interface up and begins to look for an address; the actions are for [`Self::run`].
    pub fn acquire(
        handle: Arc<Handle>,
        wake: PipeReader,
        context: Arc<Context>,
    ) -> Result<(Self, Vec<Action>), Error> {
        let place = find(&handle.allocate, &context)?;
        let was_down = place.set_up()?;
        let params = params(&handle.allocate, &place, &context);
        let (state, actions) = machine::acquire(&params, moment());
        Ok((Self::new(handle, wake, context, place, params, was_down, state), actions))
    }

    /// Begins to confirm a lease of before. `None`: the interface is gone.
    pub fn resume(
        record: &Record,
        handle: Arc<Handle>,
        wake: PipeReader,
        context: Arc<Context>,
    ) -> Option<(Self, Vec<Action>)> {
        let place = find(&handle.allocate, &context).ok()?;
        if numbers(place.namespace()) != record.namespace || place.index() != record.index {
            return None;
        }
        let params = params(&handle.allocate, &place, &context);
        let (state, actions) = machine::verify(record.lease.clone(), &params, moment());
        Some((Self::new(handle, wake, context, place, params, record.was_down, state), actions))
    }

    fn new(
        handle: Arc<Handle>,
        wake: PipeReader,
        context: Arc<Context>,
        place: Place,
        params: Params,
        was_down: bool,
        state: State,
    ) -> Self {
        let watch = now() + WATCH;
        handle.set_place(place.clone());
        Self {
            handle,
            wake,
            context,
            place,
            params,
            was_down,
            ear: None,
            state,
            watch,
            lost: false,
        }
    }

    /// Runs to the end.
    pub fn run(mut self, actions: Vec<Action>) {
        self.perform_all(actions);
        while self.state != State::Ended || self.lost {
            if !self.state.is_waiting() {
                self.ear = None;
            }
            let Some(event) = self.next_event() else { continue };
            let over = self.lost && matches!(event, Event::Release | Event::Vanished);
            let state = std::mem::replace(&mut self.state, State::Ended);
            let (state, actions) = machine::step(state, event, &self.params, moment());
            self.state = state;
            self.lost &= !over;
            self.perform_all(actions);
        }
    }

    /// Waits for whatever comes first; `None`: look again.
    fn next_event(&mut self) -> Option<Event> {
        if self.handle.is_stopping() {
            return Some(Event::Release);
        }
        let now = now();
        if self.state.deadline().is_some_and(|deadline| now >= deadline) {
            return Some(Event::Due);
        }
        if now >= self.watch {
            self.watch = now + WATCH;
            return self.place.has_vanished().then_some(Event::Vanished);
        }
        let until = self.state.deadline().unwrap_or(self.watch).min(self.watch);
        self.sleep(until - now);
        self.hear()
    }

    fn sleep(&mut self, time: Time) {
        let timeout =
            PollTimeout::try_from(Duration::from_millis(time)).unwrap_or(PollTimeout::MAX);
        let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        if let Some(ear) = &self.ear {
            fds.push(PollFd::new(ear.socket.as_fd(), PollFlags::POLLIN));
        }
        // An interruption is as good as a wake-up.
        let _ = poll(&mut fds, timeout);
        let woken = fds[0].any().unwrap_or_default();
        drop(fds);
        if woken {
            let _ = self.wake.read(&mut [0; 16]);
        }
    }

    fn hear(&mut self) -> Option<Event> {
        let received = self.ear.as_ref()?.socket.receive();
        let datagram = match received {
            Ok(datagram) => datagram?,
            Err(error) => {
                // Such as a link that went down: a new socket will tell.
                self.say(&one_line(&error));
                self.ear = None;
                return None;
            }
        };
        let payload = datagram::decode(&datagram.payload, datagram.checksum_is_complete)?;
        Message::decode(payload).map(|message| Event::Received(message, datagram.from))
    }

    fn perform_all(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send(message, to) => self.send(&message, to),
            Action::Hold(lease) => self.hold(lease),
            Action::Fail(failure) => {
                self.put_back();
                self.handle.set(Status::Over(Over::Failed(self.explain(failure))));
            }
            Action::Lose(reason) => self.lose(reason),
            Action::Forget => {
                self.say("done");
                self.put_back();
                forget(&self.context.store, &self.handle.allocate.attachment);
                self.handle.set(Status::Over(Over::Done));
            }
            Action::Note(text) => self.say(text),
        }
    }

    /// A message that cannot be sent is as good as one that was lost on the way.
    fn send(&mut self, message: &Message, to: To) {
        if self.ear.is_none() {
            match self.place.listen() {
                Ok(ear) => self.ear = Some(ear),
                Err(error) => return self.say(&one_line(&error)),
            }
        }
        let (address, mac) = match to {
            To::All => (Ipv4Addr::BROADCAST, BROADCAST),
            To::Server(address, mac) => (address, mac),
        };
        let bytes = datagram::encode(message.ciaddr, address, &message.encode());
        let sent = self.ear.as_ref().map(|ear| ear.socket.send(mac, &bytes));
        if let Some(Err(error)) = sent {
            self.ear = None;
            self.say(&one_line(&error));
        }
    }

    /// On disk first: whoever is told of a lease can rely on its being looked after.
    fn hold(&mut self, lease: Lease) {
        let record = Record {
            allocate: self.handle.allocate.clone(),
            namespace: numbers(self.place.namespace()),
            index: self.place.index(),
            was_down: self.was_down,
            lease: lease.clone(),
        };
        if let Err(error) = self.context.store.save(&record) {
            self.say(&format!("a restart will forget it: cannot write it down: {error}"));
        }
        self.say(&format!("{} from {}{}", lease.address, lease.server, remaining(&lease)));
        self.handle.set(Status::Held(lease));
    }

    fn lose(&mut self, reason: &'static str) {
        self.say(&format!("the lease is lost, the interface goes down: {reason}"));
        if let Err(error) = self.place.set_down() {
            self.say(&error.to_string());
        }
        forget(&self.context.store, &self.handle.allocate.attachment);
        self.lost = true;
        self.handle.set(Status::Over(Over::Lost(reason)));
    }

    /// Leaves the interface as it was found.
    fn put_back(&mut self) {
        self.ear = None;
        if self.was_down
            && !self.place.has_vanished()
            && let Err(error) = self.place.set_down()
        {
            self.say(&error.to_string());
        }
    }

    fn explain(&self, failure: Failure) -> Error {
        let ifname = &self.handle.allocate.attachment.ifname;
        match failure {
            Failure::NoAnswer => {
                let seconds = self.params.timing.resend_timeout / 1000;
                let msg = format!(
                    "no more tries: no DHCP server gave {ifname:?} an address within {seconds} s"
                );
                Error::new(ErrorCode::TryAgainLater, msg).with_details(
                    "is a DHCP server on the network that the interface is on, and has it free addresses?",
                )
            }
            Failure::NoSubnetMask => {
                let msg = "DHCP option Subnet Mask not found in DHCPACK";
                Error::new(ErrorCode::InvalidConfig, msg)
                    .with_details("the address was given back; let \"request\" name \"subnet-mask\", or configure the server")
            }
            Failure::Stopped => {
                let msg = format!("{ifname:?} was released while an address was looked for");
                Error::new(ErrorCode::TryAgainLater, msg)
            }
        }
    }

    fn say(&self, text: &str) {
        log(&format!("{}: {text}", self.handle.allocate.attachment));
    }
}

fn find(allocate: &Allocate, context: &Context) -> Result<Place, Error> {
    let path = prefixed(context.prefix.as_deref(), allocate.netns.as_ref());
    Place::find(path, &allocate.attachment.ifname)
}

fn params(allocate: &Allocate, place: &Place, context: &Context) -> Params {
    let mut provide = allocate.provide.clone();
    provide.entry(code::CLIENT_ID).or_insert_with(|| client_id(&allocate.attachment));
    Params {
        chaddr: place.mac(),
        provide,
        request: allocate.request.clone(),
        broadcast: context.broadcast,
        timing: context.timing,
    }
}

/// As the reference's: 0 for "no hardware address", then the attachment (RFC 2132, section 9.14).
fn client_id(attachment: &Attachment) -> Vec<u8> {
    let mut id = vec![0];
    id.extend(attachment.to_string().bytes().take(LONGEST_NAME));
    id
}

fn remaining(lease: &Lease) -> String {
    lease.times.map_or(String::new(), |times| {
        format!(" for {} s", times.end.saturating_sub(clock::now()) / 1000)
    })
}

/// Removes a lease's file.
pub fn forget(store: &Store, attachment: &Attachment) {
    if let Err(error) = store.remove(attachment) {
        log(&format!("{attachment}: cannot remove its file: {error}"));
    }
}
