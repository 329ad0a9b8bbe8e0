//! The overlay as a daemon.

use conf::AgentConfig;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, io_error};
use crate::overlay::run::Controller;
use crate::{api, daemon};

/// Runs until SIGTERM or SIGINT. Everything stays.
pub async fn serve(config: &AgentConfig) -> Result<(), CommandError> {
    let listen = |kind| signal(kind).map_err(io_error("listen for signals"));
    let (mut terminate, mut interrupt, mut hang_up) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
        listen(SignalKind::hangup())?,
    );
    let controller = Controller::open(config).await?;
    let socket = &config.overlay.socket;
    api::serve_overlay(socket, &config.node_name, controller.board.clone())
        .map_err(io_error(format!("listen on {}; set overlay.socket", socket.display())))?;
    let reload = controller.reload.clone();
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            reload.now();
        }
    });
    let mut connected = controller.connected.clone();
    tokio::spawn(async move {
        if connected.wait_for(|connected| *connected).await.is_ok() {
            tracing::info!("this node is connected");
            sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("connected")]).ok();
        }
    });
    daemon::feed_watchdog();
    sd_notify::notify(&[NotifyState::Status("waiting for the first sync")]).ok();
    tracing::info!(
        node = config.node_name,
        backend = config.overlay.backend.as_str(),
        version = env!("CARGO_PKG_VERSION"),
        "the overlay starts"
    );
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        sd_notify::notify(&[NotifyState::Stopping]).ok();
    };
    controller.run(stop).await;
    std::fs::remove_file(socket).ok();
    tracing::info!("the overlay stops; devices, routes and rules stay");
    Ok(())
}
