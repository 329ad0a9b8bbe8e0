//! The proxy as a daemon.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use netns_tools::iptables::Family;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::arguments::Arguments;
use super::{CommandError, host_config, io_error, objects, tell};
use crate::lock::{Lock, Role};
use crate::proxy::config::{DetectLocal, Loaded, ProxyConfig};
use crate::proxy::host::{Prepared, blind_spots, prepare, watch_addresses};
use crate::proxy::model::{Event, Node};
use crate::proxy::ops::{Listeners, Ops, SettingNames, Settings};
use crate::proxy::options::RuleOptions;
use crate::proxy::run::{Alarm, Observer, Observers, Parts, Runner, backends};

/// Runs until SIGTERM or SIGINT. The rules stay.
pub async fn serve(arguments: &Arguments, loaded: &Loaded) -> Result<(), CommandError> {
    let config = &loaded.config;
    let listen = |kind| signal(kind).map_err(io_error("listen for signals"));
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let _lock = Lock::take(Role::ServiceProxy)?;
    set_oom_score(config.oom_score_adj);
    let (families, problems) =
        backends::open(config.mode, &config.required(), arguments.take_over)?;
    tell(&problems);
    let prepared = prepare(&host_config(loaded));
    tell(&prepared.problems);
    let served = families.iter().map(|parts| parts.backend.family()).collect();
    let (ops, _serving) = start_servers(loaded)?;
    let (_source, objects) = objects::follow(arguments, config).await?;
    let addresses = watch_addresses()?;
    let (chooser, options) =
        Chooser::new(config.clone(), served, &prepared, addresses, ops.clone());
    let (events, relayed) = mpsc::channel(1);
    tokio::spawn(chooser.relay(objects, events));
    let runner = Runner::new(Parts {
        events: relayed,
        options,
        node: None,
        families,
        pace: config.pace,
        observer: Arc::new(Observers(vec![Arc::new(ops), Arc::new(Readiness::default())])),
        alarm: open_alarm(),
    });
    tracing::info!(
        mode = config.mode.name(),
        node = config.node_name,
        version = env!("CARGO_PKG_VERSION"),
        "the service proxy starts"
    );
    tokio::select! {
        () = runner.run() => return Err(CommandError::NoObjects),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    sd_notify::notify(&[NotifyState::Stopping]).ok();
    tracing::info!("the service proxy stops; the rules stay");
    Ok(())
}

fn start_servers(loaded: &Loaded) -> Result<(Ops, crate::proxy::ops::Serving), CommandError> {
    let config = &loaded.config;
    let ops = Ops::new(Settings {
        mode: config.mode,
        // as kube-proxy
        health_timeout: config.pace.resync * 2,
        configuration: loaded.document.clone(),
    });
    let serving = ops.serve(Listeners {
        metrics: config.metrics,
        health: config.healthz,
        hard_fail: config.bind_hard_fail,
        names: SettingNames::KUBE_PROXY,
    })?;
    Ok((ops, serving))
}

fn open_alarm() -> Option<Alarm> {
    match Alarm::open() {
        Ok(alarm) => Some(alarm),
        Err(error) => {
            tracing::warn!(%error, "changes that others make to rules are noticed late");
            None
        }
    }
}

fn set_oom_score(score: i32) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::warn!(%error, score, "cannot set oomScoreAdj");
    }
}

/// Tells the service manager once the first rules are in force.
#[derive(Debug, Default)]
struct Readiness {
    told: AtomicBool,
}

impl Observer for Readiness {
    fn settled(&self, _: u64) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::info!("the rules of all services are in force");
            sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("rules are in force")])
                .ok();
        }
    }
}

/// Chooses what the rules depend on, as this node and this host's addresses change.
struct Chooser {
    config: ProxyConfig,
    families: Vec<Family>,
    tcp_is_liberal: bool,
    node: Node,
    addresses: watch::Receiver<Vec<IpAddr>>,
    options: watch::Sender<RuleOptions>,
    ops: Ops,
    told: Vec<String>,
}

impl Chooser {
    fn new(
        config: ProxyConfig,
        families: Vec<Family>,
        prepared: &Prepared,
        addresses: watch::Receiver<Vec<IpAddr>>,
        ops: Ops,
    ) -> (Self, watch::Receiver<RuleOptions>) {
        let node = Node::named(&config.node_name);
        let (options, receiver) = watch::channel(RuleOptions::default());
        let tcp_is_liberal = prepared.tcp_is_liberal;
        let told = Vec::new();
        let mut chooser =
            Self { config, families, tcp_is_liberal, node, addresses, options, ops, told };
        chooser.choose();
        (chooser, receiver)
    }

    /// Hands events on. Options come before the events that they follow from.
    async fn relay(mut self, mut objects: mpsc::Receiver<Event>, events: mpsc::Sender<Event>) {
        let mut watching = true;
        loop {
            tokio::select! {
                event = objects.recv() => {
                    let Some(event) = event else { return };
                    if let Event::Node(node) = &event {
                        self.node = node.clone();
                        self.choose();
                        self.tell_blind_spots();
                    }
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
                changed = self.addresses.changed(), if watching => match changed {
                    Ok(()) => self.choose(),
                    Err(_) => watching = false,
                },
            }
        }
    }

    fn choose(&mut self) {
        let mut options = self.config.rule_options(&self.node, &self.addresses.borrow_and_update());
        options.drop_invalid &= !self.tcp_is_liberal;
        self.ops.set_node_ports(&options.node_ports);
        self.options.send_if_modified(|known| {
            let differs = *known != options;
            *known = options;
            differs
        });
    }

    fn tell_blind_spots(&mut self) {
        let by_node = self.config.detect_local == DetectLocal::NodeCidr;
        // a family that this node has no address of carries no pods
        let mut families = self.families.clone();
        families.retain(|family| self.node.address(*family).is_some());
        let spots = blind_spots(&self.options.borrow().local, &families, by_node, &self.node);
        for spot in spots.iter().filter(|spot| !self.told.contains(spot)) {
            tracing::warn!("{spot}");
        }
        self.told = spots;
    }
}
