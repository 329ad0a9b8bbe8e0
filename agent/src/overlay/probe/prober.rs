//! The end that asks: sockets and clock for the schedule, channels to the rest of the overlay.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netns_tools::{complete_checksum, probe_socket};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::checksum::{Checksum, Command, Setting};
use super::datagram::{Datagram, HEADER, LONGEST};
use super::routers::{self, Said};
use super::schedule::{Next, Schedule, Send};
use super::{Key, Results, Target};

/// Results are told at most this often: ten thousand nodes that are found at once are one message.
const TELL: Duration = Duration::from_millis(250);
/// Answers that wait to be looked at. More are lost, as by a wire.
const QUEUE: usize = 256;

/// What to probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The ways to other nodes. Those that announce no port for probes are not in here.
    pub targets: BTreeMap<Key, Target>,
    /// This node's VXLAN devices, and whether the kernel has their checksum offload on. What a command made of it need not be told; what
    /// somebody else made of it, or a device that was made anew, does.
    pub devices: BTreeMap<String, bool>,
    /// `overlay.checksum_offload`.
    pub setting: Setting,
}

/// A command, and where its end is told: `Err` has what the kernel says.
#[derive(Debug)]
pub struct Switch {
    /// What is to be done.
    pub command: Command,
    /// Its end. Dropped: it was not done.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// How the prober is connected.
#[derive(Debug)]
pub struct Channels {
    /// What to probe; the prober ends when it has no sender any more.
    pub input: watch::Receiver<Arc<Input>>,
    /// Something on the way to these has changed: they are probed anew. Empty: all of them.
    pub hurry: mpsc::Receiver<Vec<Key>>,
    /// What is known.
    pub results: watch::Sender<Arc<Results>>,
    /// For the worker that writes to the kernel.
    pub switches: mpsc::Sender<Switch>,
}

/// An answer: from whom, and with which number.
type Answer = (SocketAddr, u64);

/// Probes in the network namespace of the calling task's thread.
pub async fn probe(channels: Channels) {
    let (answers, receiver) = mpsc::channel(QUEUE);
    let (hearing, said) = listen();
    let now = Instant::now();
    let prober = Prober {
        schedule: Schedule::new(now),
        sockets: Sockets {
            open: HashMap::new(),
            tasks: JoinSet::new(),
            answers,
            told: HashMap::new(),
        },
        checksums: BTreeMap::new(),
        is_on: BTreeMap::new(),
        switching: JoinSet::new(),
        input: Arc::default(),
        channels,
        told_at: None,
        judged: 0,
    };
    prober.run(receiver, said).await;
    drop(hearing);
}

/// Listens to routers for as long as the tasks are kept.
fn listen() -> (JoinSet<()>, mpsc::Receiver<Said>) {
    let (mut tasks, (told, said)) = (JoinSet::new(), mpsc::channel(1));
    for is_ipv4 in [true, false] {
        match routers::open(is_ipv4) {
            Ok(listener) => drop(tasks.spawn(routers::hear(listener, told.clone()))),
            // a kernel without the family, or a container without CAP_NET_RAW
            Err(error) => {
                tracing::info!(%error, is_ipv4, "what routers say of too large packets is found by the next probes");
            }
        }
    }
    (tasks, said)
}

struct Prober {
    schedule: Schedule,
    sockets: Sockets,
    checksums: BTreeMap<String, Checksum>,
    /// Whether checksum offload is on: as it was told, or as a command left it since.
    is_on: BTreeMap<String, bool>,
    /// Commands whose end is waited for.
    switching: JoinSet<(Command, Result<(), String>)>,
    input: Arc<Input>,
    channels: Channels,
    told_at: Option<Instant>,
    /// How many rounds had ended when the devices were looked at.
    judged: u64,
}

impl Prober {
    async fn run(mut self, mut answers: mpsc::Receiver<Answer>, mut said: mpsc::Receiver<Said>) {
        self.take_in();
        loop {
            let wake = self.work();
            let sleep = tokio::time::sleep_until(wake.into());
            tokio::select! {
                changed = self.channels.input.changed() => match changed {
                    Ok(()) => self.take_in(),
                    Err(_) => return,
                },
                Some(keys) = self.channels.hurry.recv() => self.hurry(&keys),
                Some(said) = said.recv() => self.schedule.routers_say(&said, Instant::now()),
                Some((from, nonce)) = answers.recv() => {
                    self.schedule.answered((from.ip(), from.port()), nonce, Instant::now());
                }
                Some(done) = self.switching.join_next() => {
                    if let Ok((command, result)) = done {
                        self.switched(&command, result);
                    }
                }
                () = sleep => {}
            }
        }
    }

    fn take_in(&mut self) {
        let now = Instant::now();
        let new = Arc::clone(&self.channels.input.borrow_and_update());
        let before = std::mem::replace(&mut self.input, new);
        let Input { targets, devices, .. } = &*self.input;
        self.schedule.set(targets, now);
        self.checksums.retain(|device, _| devices.contains_key(device));
        self.is_on.retain(|device, _| devices.contains_key(device));
        for (device, is_on) in devices {
            if before.devices.get(device) != Some(is_on) {
                self.is_on.insert(device.clone(), *is_on);
            }
            self.checksums.entry(device.clone()).or_insert_with(|| Checksum::new(*is_on, now));
        }
        let used = |local: &IpAddr| {
            targets.values().any(|target| [target.end.from, target.end.local].contains(local))
        };
        self.sockets.keep(used);
        self.judge(now);
    }

    fn hurry(&mut self, keys: &[Key]) {
        let keys: BTreeSet<&Key> = keys.iter().collect();
        let chosen = |key: &Key, _: &Target| keys.is_empty() || keys.contains(key);
        self.schedule.hurry(chosen, Instant::now());
    }

    /// Does all that is due, and says when something will be.
    fn work(&mut self) -> Instant {
        let now = Instant::now();
        let far = now + Duration::from_hours(1);
        let next = loop {
            match self.schedule.next(now) {
                Next::Send(send) => self.send(&send, now),
                Next::At(then) => break then,
                Next::Never => break far,
            }
        };
        // to count what all nodes say is too much for each probe
        if self.schedule.rounds() != self.judged {
            self.judged = self.schedule.rounds();
            self.judge(now);
        }
        self.tell(now).map_or(next, |then| then.min(next))
    }

    fn send(&mut self, send: &Send, now: Instant) {
        let Err(error) = self.sockets.send(send) else { return };
        if probe_socket::is_too_large(&error) {
            self.schedule.refused(send.nonce, now);
        } else {
            // no route, no address yet, a rule that drops it: as good as lost on the way
            tracing::debug!(node = &*send.key.node, to = %send.to, %error, "a probe cannot be sent");
        }
    }

    fn judge(&mut self, now: Instant) {
        for (device, checksum) in &mut self.checksums {
            let is_on = self.is_on.get(device).copied().unwrap_or(true);
            let tally = self.schedule.tally(device, checksum.since());
            let Some(switching) = checksum.judge(self.input.setting, is_on, tally, now) else {
                continue;
            };
            let (on, reason) = (switching.on, switching.reason);
            tracing::warn!(device, on, reason, "checksum offload is switched");
            let command = Command { device: device.clone(), on, reason };
            self.switching.spawn(switch(self.channels.switches.clone(), command));
        }
    }

    fn switched(&mut self, command: &Command, result: Result<(), String>) {
        let now = Instant::now();
        let device = &command.device;
        match &result {
            Ok(()) => drop(self.is_on.insert(device.clone(), command.on)),
            Err(error) => tracing::warn!(device, error, "checksum offload cannot be switched"),
        }
        if let Some(checksum) = self.checksums.get_mut(device) {
            checksum.switched(result, now);
        }
        let is_behind = |_: &Key, target: &Target| target.is_through(device);
        self.schedule.hurry(is_behind, now);
        self.judge(now);
    }

    /// Tells what is new; when it will, if it has told something just now.
    fn tell(&mut self, now: Instant) -> Option<Instant> {
        let states =
            || self.checksums.iter().map(|(name, one)| (name.clone(), one.state().clone()));
        if let Some(then) = self.told_at.map(|at| at + TELL).filter(|then| *then > now) {
            return Some(then);
        }
        let devices: BTreeMap<_, _> = states().collect();
        let is_same = self.channels.results.borrow().devices == devices;
        if self.schedule.take_changed() || !is_same {
            self.told_at = Some(now);
            let results = Results { ways: self.schedule.known(), devices };
            self.channels.results.send_replace(Arc::new(results));
        }
        None
    }
}

/// Has a command done.
async fn switch(switches: mpsc::Sender<Switch>, command: Command) -> (Command, Result<(), String>) {
    let (done, end) = oneshot::channel();
    let gone = || "nobody does it".to_owned();
    let result = match switches.send(Switch { command: command.clone(), done }).await {
        Ok(()) => end.await.unwrap_or_else(|_| Err(gone())),
        Err(_) => Err(gone()),
    };
    (command, result)
}

/// One socket twice: what waits for answers does not know at first whether it could send.
struct Socket {
    sender: std::net::UdpSocket,
    receiver: Arc<UdpSocket>,
}

impl Socket {
    fn open(local: IpAddr) -> io::Result<Self> {
        let sender = probe_socket::open(SocketAddr::new(local, 0))?;
        let receiver = Arc::new(UdpSocket::from_std(sender.try_clone()?)?);
        Ok(Self { sender, receiver })
    }
}

/// A socket for each of this node's addresses.
struct Sockets {
    open: HashMap<IpAddr, Socket>,
    tasks: JoinSet<IpAddr>,
    answers: mpsc::Sender<Answer>,
    /// Why there is no socket, where that is told.
    told: HashMap<IpAddr, io::ErrorKind>,
}

impl Sockets {
    /// Closes what is not used any more.
    fn keep(&mut self, used: impl Fn(&IpAddr) -> bool) {
        let before = self.open.len();
        self.told.retain(|local, _| used(local));
        self.open.retain(|local, _| used(local));
        if self.open.len() < before {
            // the tasks that listen to them hold them open too
            self.tasks.abort_all();
            let listening: Vec<_> =
                self.open.iter().map(|(local, one)| (*local, Arc::clone(&one.receiver))).collect();
            for (local, receiver) in listening {
                self.listen(local, receiver);
            }
        }
    }

    fn listen(&mut self, local: IpAddr, receiver: Arc<UdpSocket>) {
        let answers = self.answers.clone();
        self.tasks.spawn(async move {
            receive(&receiver, &answers).await;
            local
        });
    }

    fn send(&mut self, send: &Send) -> io::Result<()> {
        // a socket that failed is opened anew
        while let Some(ended) = self.tasks.try_join_next() {
            if let Ok(local) = ended {
                self.open.remove(&local);
            }
        }
        self.ensure(send.from)?;
        let Some(Socket { sender, .. }) = self.open.get(&send.from) else { return Ok(()) };
        let to = SocketAddr::new(send.to, send.port);
        let payload = probe_socket::payload(send.size, send.to).unwrap_or(0).min(LONGEST);
        let bytes = Datagram::question(send.nonce, payload.try_into().unwrap_or(u16::MAX)).write();
        if send.checked {
            return complete_checksum::send(sender, &bytes, to);
        }
        sender.send_to(&bytes, to).map(drop)
    }

    fn ensure(&mut self, local: IpAddr) -> io::Result<()> {
        if self.open.contains_key(&local) {
            return Ok(());
        }
        let socket = Socket::open(local);
        if let Err(error) = &socket
            && self.told.insert(local, error.kind()) != Some(error.kind())
        {
            tracing::warn!(from = %local, %error, "no probes can be sent from this address");
        }
        let socket = socket?;
        self.told.remove(&local);
        self.listen(local, Arc::clone(&socket.receiver));
        self.open.insert(local, socket);
        Ok(())
    }
}

/// Receives answers until the socket fails.
async fn receive(socket: &UdpSocket, answers: &mpsc::Sender<Answer>) {
    let mut buffer = [0; HEADER + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "no answers can be received");
                return;
            }
        };
        match Datagram::read(&buffer[..length]) {
            Ok(datagram) if datagram.is_answer => {
                // a full queue loses it
                let _ = answers.try_send((from, datagram.nonce));
            }
            other => tracing::trace!(%from, ?other, "not an answer"),
        }
    }
}
