//! A cluster for show and for proof: a manager and its workers, each a process of this very program, in a throw-away
//! folder on ports of the loopback address. What runs ends with the value, and with this process, however it ends.

mod account;
mod error;
mod interrupts;
mod load;
mod member;
mod ports;
mod sink;

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use base::Clock;
use cluster::{authority::Authority, identity::Identity};
use tempfile::TempDir;

pub(crate) use account::{Account, Coming, Key, Lost, Mark, NodeSums, Spell, Sums, unexplained};
pub use error::FleetError;
pub(crate) use interrupts::Interrupts;
pub(crate) use load::{Load, Pace, Sample};
pub(crate) use member::Member;
use ports::Ports;
pub(crate) use sink::start as start_sink;

use crate::{
    api::{AddNodeRequest, NodesReport, QueueQuery, StatusReport},
    node::data::DataDir,
};

/// What a fleet is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The workers beside the manager.
    pub(crate) workers: usize,
    /// Where the manager is to take mail in, if that port is free.
    pub(crate) smtp: SocketAddr,
    /// Where its console is to be, if that port is free.
    pub(crate) console: SocketAddr,
    /// Where all mail goes.
    pub(crate) sink: SocketAddr,
    /// The retry plan, as the flag has it.
    pub(crate) retry: &'static str,
    /// How the folder's name begins.
    pub(crate) prefix: &'static str,
}

/// A manager and its workers, running. Dropping it kills them and removes their folder.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// The manager is the first.
    members: Vec<Arc<Member>>,
    console: SocketAddr,
    folder: Option<TempDir>,
}

/// How the fleet stands.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// The manager's own word.
    pub(crate) status: StatusReport,
    /// What it says of all nodes.
    pub(crate) nodes: NodesReport,
    /// Recipients that were accepted, have not come, and are more than wait in the queue.
    pub(crate) lost: u64,
}

/// Liveness for those who look on: a lost node is found within four seconds, and what it may have delivered waits for two.
const QUICK: &str = "\
    cluster.heartbeat = '500ms'\n\
    cluster.suspect = '1500ms'\n\
    cluster.gone = '4s'\n\
    cluster.lease = '3s'\n\
    cluster.steady = '1s'\n\
    cluster.freeze-within = '1s'\n\
    cluster.after-loss = '2s'\n\
    spool.segment = '16MiB'\n\
    delivery.connections = 100\n\
    stop.grace = '5s'\n";

/// What a worker needs to know by itself.
const WORKER: &str = "stop.grace = '5s'\n";

/// The most works that a manager lists.
const MOST_LISTED: u32 = 10_000;

impl Fleet {
    /// Starts a manager and its workers, and waits until they are linked.
    ///
    /// # Errors
    /// One does not come to run; those that did are ended.
    pub(crate) async fn start(layout: Layout) -> Result<Self, FleetError> {
        match Self::try_start(layout).await {
            // Somebody was faster at one of its ports, it may be: any others will do.
            Err(FleetError::Ended { .. }) => {
                let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                Self::try_start(Layout { smtp: anywhere, console: anywhere, ..layout }).await
            }
            started => started,
        }
    }

    async fn try_start(layout: Layout) -> Result<Self, FleetError> {
        let folder = tempfile::Builder::new().prefix(layout.prefix).tempdir()?;
        let mut ports = Ports::default();
        let door = ports.wished(layout.smtp)?;
        let console = ports.wished(layout.console)?;
        let link = ports.free()?;
        let place = Place { folder: folder.path().to_owned(), program: std::env::current_exe()? };
        let mut flags = vec!["--role".into(), "manager".into(), "--link".into(), link.to_string()];
        flags.extend(["--smarthost".into(), layout.sink.to_string(), "--retry".into(), layout.retry.into()]);
        let (manager, _) = place.member(1, (door, console), QUICK, flags)?;
        let pin = Authority::open_or_make(manager.data_dir(), Clock::system().now())
            .map_err(|error| FleetError::prepare(&error))?
            .pin();
        let mut fleet = Self { members: vec![Arc::new(manager)], console, folder: Some(folder) };
        fleet.manager().start()?;
        fleet.manager().runs().await?;
        let mut workers = Vec::new();
        for number in 2..layout.workers + 2 {
            let mut flags = vec!["--role".into(), "worker".into(), "--manager".into(), link.to_string()];
            flags.extend(["--pin".into(), pin.to_string()]);
            let (worker, key) = place.member(number, (ports.free()?, ports.free()?), WORKER, flags)?;
            let name = worker.name().parse().expect("it is a host's name");
            fleet.manager().client().add_node(&AddNodeRequest { key, name }).await?;
            worker.start()?;
            workers.push(Arc::new(worker));
        }
        fleet.members.extend(workers);
        for worker in fleet.workers() {
            worker.runs().await?;
        }
        Ok(fleet)
    }

    /// The manager.
    pub(crate) fn manager(&self) -> &Arc<Member> {
        &self.members[0]
    }

    /// Its workers.
    pub(crate) fn workers(&self) -> &[Arc<Member>] {
        &self.members[1..]
    }

    /// All nodes, the manager first.
    pub(crate) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// Where they take mail in, in the same order.
    pub(crate) fn doors(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.door()).collect()
    }

    /// The manager's console.
    pub(crate) fn console(&self) -> SocketAddr {
        self.console
    }

    /// Where everything lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it is taken at the end alone").path()
    }

    /// Whether a node has ended by itself.
    ///
    /// # Errors
    /// It has.
    pub(crate) fn check(&self) -> Result<(), FleetError> {
        self.members.iter().try_for_each(|member| member.check())
    }

    /// How it stands, beside what clients and the sink say.
    ///
    /// # Errors
    /// The manager does not answer.
    pub(crate) async fn look(&self, account: &Account) -> Result<Look, FleetError> {
        let open = account.open();
        let status = self.manager().client().status().await?;
        let still = account.still_open(&open).len() as u64;
        let nodes = self.manager().client().nodes().await?;
        Ok(Look { lost: still.saturating_sub(status.queued), status, nodes })
    }

    /// The recipients that were accepted, have not come, and do not wait.
    ///
    /// # Errors
    /// The manager does not answer.
    pub(crate) async fn missing(&self, account: &Account) -> Result<Vec<Key>, FleetError> {
        let open = account.open();
        let query = QueueQuery { works: Some(MOST_LISTED), ..QueueQuery::default() };
        let queue = self.manager().client().queue(&query).await?;
        let listed = queue.works.iter().flat_map(|work| &work.recipients);
        let waits: HashSet<Key> = listed.filter_map(|text| Key::of(&text.parse().ok()?)).collect();
        let mut missing = account.still_open(&open);
        missing.retain(|key| !waits.contains(key));
        if queue.works.len() >= MOST_LISTED as usize {
            // The list is cut; only those count that are too many for the whole queue.
            let queued: u64 = queue.destinations.iter().map(|destination| destination.recipients).sum();
            missing.truncate(open.len().saturating_sub(usize::try_from(queued).unwrap_or(usize::MAX)));
        }
        missing.sort_unstable();
        Ok(missing)
    }

    /// Stops the workers in order, so that nothing moves any more but at the manager.
    pub(crate) async fn stop_workers(&self) {
        for worker in self.workers() {
            // One that hangs is killed below.
            let _ = worker.terminate().await;
        }
    }

    /// Kills all nodes, and leaves what they wrote; returns where.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.kill();
        self.folder.take().expect("it is taken here alone").keep()
    }

    fn kill(&self) {
        for member in &self.members {
            member.end();
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Before their folder goes. Whoever else knows a node cannot start it again.
        self.kill();
    }
}

/// Where a fleet lies, and what it runs.
struct Place {
    folder: PathBuf,
    program: PathBuf,
}

impl Place {
    /// Prepares a node that is not started yet; returns its public key as well.
    fn member(
        &self,
        number: usize,
        (door, console): (SocketAddr, SocketAddr),
        file: &str,
        flags: Vec<String>,
    ) -> Result<(Member, String), FleetError> {
        let name = format!("mx{number}");
        let folder = self.folder.join(&name);
        let data = folder.join("data");
        fs::create_dir(&folder)?;
        let config = folder.join("posthouse.toml");
        fs::write(&config, file)?;
        let dir = DataDir::open(&data).map_err(|error| FleetError::prepare(&error))?;
        let identity =
            Identity::open_or_make(&data, dir.id()).map_err(|error| FleetError::prepare(&error))?;
        let mut arguments: Vec<OsString> = vec!["fleet-node".into()];
        arguments.extend(["--parent".into(), std::process::id().to_string().into()]);
        arguments.extend(["--config".into(), config.into(), "--data-dir".into(), data.clone().into()]);
        let own = [
            ("--name", name.clone()),
            ("--hostname", sink::ehlo(number)),
            ("--smtp", door.to_string()),
            ("--console", console.to_string()),
        ];
        arguments.extend(own.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()]));
        arguments.extend(flags.into_iter().map(OsString::from));
        let member = Member::new(name, self.program.clone(), arguments, &folder, data, door);
        Ok((member, identity.public_key().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_files_of_nodes_are_taken() {
        for text in [QUICK, WORKER] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("posthouse.toml");
            fs::write(&file, text).unwrap();
            let config = Config::read(&file).unwrap();
            assert_eq!(config.cluster.check(config.limits.message), Ok(()));
        }
    }
}
