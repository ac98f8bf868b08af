//! The manager's part of a node: its port for other nodes, and what they are told.

use std::{path::Path, sync::Arc};

use base::{Clock, Shutdown};
use cluster::{
    authority::Authority,
    identity::Identity,
    manager::{Manager, Options, Works},
};
use queue::Queue;
use store::settings::Settings;

use super::NodeError;
use crate::config::{Attempts, Config};

/// Sets up the manager's side of the cluster; nobody can dial in yet.
pub(super) fn start(
    config: &Config,
    (dir, identity): (&Path, &Identity),
    queue: &Queue,
    settings: &Arc<Settings>,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<Manager, NodeError> {
    let authority = Authority::open_or_make(dir, clock.now())
        .map_err(|error| NodeError::cluster(&error, error.hint()))?;
    let section = &config.cluster;
    let options = Options {
        name: config.name.as_str().to_owned(),
        timing: section.timing(),
        after_loss: section.after_loss.time(),
        placement: section.placement,
        works: match section.attempts {
            Attempts::Everywhere => Works::Yes,
            Attempts::Workers => Works::No,
        },
        credit_works: section.credit_works.number(),
        credit_bytes: section.credit_bytes.0,
    };
    Manager::start(options, queue.clone(), settings.clone(), (authority, identity), clock.clone(), shutdown)
        .map_err(|error| NodeError::cluster(&error, error.hint()))
}
