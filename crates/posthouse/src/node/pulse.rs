//! What systemd hears of a running node: that it is ready, that it lives, how it is, and that it stops.

use std::{sync::Arc, time::Duration};

use base::Shutdown;

use crate::{
    api::Readiness,
    control::NodeView,
    systemd::{self, State},
};

/// How often the line of `systemctl status` is brought up to date.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// Tells that the node is ready, and from then on that it lives, until it stops.
pub(super) fn start<V: NodeView>(view: Arc<V>, upkeep: Shutdown) -> Pulse {
    tell(&State::Ready);
    let watchdog = systemd::watchdog();
    tokio::spawn(async move {
        // A node whose runtime hangs does not get here, and systemd starts it again.
        let mut ticks = tokio::time::interval(watchdog.map_or(STATUS_EVERY, |every| every.min(STATUS_EVERY)));
        while !upkeep.is_stopping() {
            ticks.tick().await;
            if watchdog.is_some() {
                tell(&State::Alive);
            }
            if let Ok(status) = view.status().await {
                let line = match &status.readiness {
                    Readiness::Ready => {
                        format!("{} recipients queued, {} sessions", status.queued, status.sessions)
                    }
                    Readiness::NotReady(why) => format!("not ready: {why}"),
                };
                tell(&State::Status(line));
            }
        }
    });
    Pulse
}

/// What a node that has told of its start owes at its end.
pub(super) struct Pulse;

impl Pulse {
    /// Tells that the node is stopping.
    pub(super) fn stopping(self) {
        tell(&State::Stopping);
    }
}

/// Tells systemd; that it cannot be told keeps no mail from going.
pub(super) fn tell(state: &State) {
    if let Err(error) = systemd::notify(state) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}
