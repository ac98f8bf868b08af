//! Reading the configuration again while the node runs: all of it counts, or nothing changes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base::Shutdown;
use mail::{Door, Files, Gateway, GatewayError, Worker};
use tokio::{net::TcpListener, sync::Mutex};

use super::{pulse::tell, settings, spawn_face};
use crate::{
    api::{ApiError, ChangedKey, ConfigurationReport, ErrorKind, ReloadReport, Reloaded},
    config::{Config, Counts, Difference, ListenAddress},
    console,
    control::NodeView,
    failure::Failure,
    listen::{Bound, ListenError, bind, listen},
    logging,
    systemd::State,
};

/// Reads the configuration: the file again, and the flags of this process over it.
pub type Source = Box<dyn Fn() -> Result<Config, Failure> + Send + Sync>;

/// The mail trade of this node, whichever it is.
pub(super) enum Mail {
    Gateway(Arc<Gateway>),
    Worker(Arc<Worker>),
}

impl Mail {
    fn open(&self, socket: TcpListener) -> Door {
        match self {
            Self::Gateway(gateway) => gateway.open(socket),
            Self::Worker(worker) => worker.open(socket),
        }
    }

    fn read(&self, config: &mail::Config) -> Result<Files, GatewayError> {
        match self {
            Self::Gateway(gateway) => gateway.read(config),
            Self::Worker(worker) => worker.read(config),
        }
    }

    fn take(&self, files: Files) {
        match self {
            Self::Gateway(gateway) => gateway.take(files),
            Self::Worker(worker) => worker.take(files),
        }
    }

    fn configure(&self, config: mail::Config) {
        match self {
            Self::Gateway(gateway) => gateway.configure(config),
            Self::Worker(worker) => worker.configure(config),
        }
    }
}

/// What of a node can change while it runs.
pub(super) struct Reload {
    source: Arc<dyn Fn() -> Result<Config, Failure> + Send + Sync>,
    mail: Mail,
    faces: Shutdown,
    descriptors: usize,
    /// Whether senders are let in. A worker lets nobody in before its manager has let it in itself.
    lets_in: AtomicBool,
    current: Mutex<Current>,
}

/// What counts now.
struct Current {
    config: Config,
    doors: Vec<Address>,
    /// Stops the console that answers now.
    console: Shutdown,
}

/// An address on which mail is taken in.
struct Address {
    /// As the configuration has it.
    at: ListenAddress,
    /// As it is.
    local: SocketAddr,
    way: Way,
}

/// Whether anybody can come in by an address.
enum Way {
    /// Not yet: the port is ours, and that is all.
    Shut(Bound),
    Open(#[expect(dead_code, reason = "it is open as long as it is kept")] Door),
}

/// A socket of which a door will be made.
pub(super) enum Socket {
    Bound(Bound),
    Listening(TcpListener),
}

/// Sockets that are had already, and that nothing comes of if something else is refused.
struct Sockets {
    doors: Vec<(ListenAddress, Socket)>,
    console: Option<TcpListener>,
}

impl Reload {
    pub(super) fn new(
        source: Source,
        mail: Mail,
        faces: Shutdown,
        descriptors: usize,
        config: Config,
    ) -> Self {
        let console = faces.child();
        let current = Current { config, doors: Vec::new(), console };
        let lets_in = AtomicBool::new(matches!(mail, Mail::Gateway(_)));
        Self { source: source.into(), mail, faces, descriptors, lets_in, current: Mutex::new(current) }
    }

    /// Takes over the doors and the console that the node starts with.
    pub(super) async fn open<V: NodeView>(&self, view: &Arc<V>, doors: Vec<Socket>, console: TcpListener) {
        let mut current = self.current.lock().await;
        let addresses = current.config.smtp.listen.clone();
        current.doors.extend(addresses.into_iter().zip(doors).map(|(at, socket)| self.address(at, socket)));
        self.serve_console(&current, view, console);
    }

    /// Whether senders are let in.
    pub(super) fn lets_in(&self) -> bool {
        self.lets_in.load(Ordering::SeqCst)
    }

    /// Lets senders in from now on.
    ///
    /// # Errors
    /// A port is not ours any more.
    pub(super) async fn let_in(&self) -> Result<(), ListenError> {
        let mut current = self.current.lock().await;
        for Address { at, local, way } in std::mem::take(&mut current.doors) {
            let way = match way {
                Way::Shut(bound) => Way::Open(self.mail.open(bound.listen()?)),
                open @ Way::Open(_) => open,
            };
            current.doors.push(Address { at, local, way });
        }
        self.lets_in.store(true, Ordering::SeqCst);
        let smtp: Vec<SocketAddr> = current.doors.iter().map(|door| door.local).collect();
        tracing::info!(?smtp, "the doors are open: mail is taken in");
        Ok(())
    }

    /// The configuration that counts, flags and all.
    pub(super) async fn config(&self) -> Config {
        self.current.lock().await.config.clone()
    }

    /// That for others to see, and what a reload would change of it.
    pub(super) async fn report(&self) -> ConfigurationReport {
        // Nobody who wants to know what counts waits for the disk.
        let read = self.read_again().await;
        let current = self.current.lock().await;
        let (changed, unreadable) = match read {
            Ok(new) => (current.config.differences(&new), None),
            Err(failure) => (Vec::new(), Some(failure.error().to_owned())),
        };
        let mut counts = current.config.clone();
        counts.smtp.listen = current.doors.iter().map(|door| ListenAddress(door.local)).collect();
        let changed = changed.into_iter().map(|difference| difference.key).collect();
        ConfigurationReport { counts, changed, unreadable }
    }

    /// The configuration as it would be read now, on a thread that may wait for the disk.
    async fn read_again(&self) -> Result<Config, Failure> {
        let source = self.source.clone();
        let read = tokio::task::spawn_blocking(move || source()).await;
        read.unwrap_or_else(|_| Err(Failure::world("the node is stopping")))
    }

    /// Where mail is taken in.
    pub(super) async fn doors(&self) -> Vec<SocketAddr> {
        self.current.lock().await.doors.iter().map(|door| door.local).collect()
    }

    /// How long what goes out may take when the node stops.
    pub(super) async fn grace(&self) -> Duration {
        self.current.lock().await.config.stop.grace.0
    }

    /// Reads the configuration again. What listens anew does so before what is given up closes.
    ///
    /// # Errors
    /// It or a file that it names cannot be read, or a port cannot be opened; then nothing has changed. Nor has it where the answer says that
    /// something takes a restart.
    pub(super) async fn reload<V: NodeView>(&self, view: &Arc<V>) -> Result<ReloadReport, ApiError> {
        let mut current = self.current.lock().await;
        tell(&State::Reloading);
        let outcome = self.take_over(&mut current, view).await;
        tell(&State::Ready);
        outcome
    }

    async fn take_over<V: NodeView>(
        &self,
        current: &mut Current,
        view: &Arc<V>,
    ) -> Result<ReloadReport, ApiError> {
        // Nothing awaits from here on: a client that goes away does not leave a reload half done.
        let new = (self.source)().map_err(|failure| refusal(&failure))?;
        let differences = current.config.differences(&new);
        if differences.iter().any(|difference| difference.counts == Counts::AfterRestart) {
            return Ok(report(Reloaded::Refused, differences));
        }
        let files = self
            .mail
            .read(&settings::mail(&new, self.descriptors))
            .map_err(|error| ApiError::new(ErrorKind::Refused, format!("nothing was changed: {error}")))?;
        if differences.is_empty() {
            self.mail.take(files);
            return Ok(report(Reloaded::Unchanged, differences));
        }
        let sockets = sockets(current, &new, self.lets_in()).map_err(|error| {
            ApiError::new(ErrorKind::Refused, format!("nothing was changed: {error}")).hint(error.hint())
        })?;
        self.mail.take(files);
        self.apply(current, view, new, sockets);
        for Difference { key, old, new, .. } in &differences {
            let value = |value: &Option<String>| value.clone().unwrap_or_default();
            tracing::info!(key, old = value(old), new = value(new), "the configuration has changed");
        }
        Ok(report(Reloaded::Applied, differences))
    }

    fn apply<V: NodeView>(&self, current: &mut Current, view: &Arc<V>, new: Config, sockets: Sockets) {
        logging::set_level(new.log.level);
        self.mail.configure(settings::mail(&new, self.descriptors));
        current.doors.extend(sockets.doors.into_iter().map(|(at, socket)| self.address(at, socket)));
        current.doors.retain(|door| new.smtp.listen.contains(&door.at));
        if let Some(socket) = sockets.console {
            current.console.stop();
            current.console = self.faces.child();
            self.serve_console(current, view, socket);
        }
        current.config = new;
    }

    fn address(&self, at: ListenAddress, socket: Socket) -> Address {
        match socket {
            Socket::Bound(bound) => Address { at, local: bound.local(), way: Way::Shut(bound) },
            Socket::Listening(socket) => {
                let local = socket.local_addr().unwrap_or(at.0);
                Address { at, local, way: Way::Open(self.mail.open(socket)) }
            }
        }
    }

    fn serve_console<V: NodeView>(&self, current: &Current, view: &Arc<V>, socket: TcpListener) {
        spawn_face(&self.faces, console::serve(socket, view.clone(), current.console.clone()));
    }
}

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reload")
    }
}

/// Takes the ports that `new` has and the node has not; those of doors listen if senders are let in.
fn sockets(current: &Current, new: &Config, lets_in: bool) -> Result<Sockets, ListenError> {
    let mut sockets = Sockets { doors: Vec::new(), console: None };
    for address in &new.smtp.listen {
        let is_there = current.doors.iter().any(|door| door.at == *address);
        if !is_there && !sockets.doors.iter().any(|(at, _)| at == address) {
            let bound = bind("smtp.listen", *address)?;
            let socket = if lets_in { Socket::Listening(bound.listen()?) } else { Socket::Bound(bound) };
            sockets.doors.push((*address, socket));
        }
    }
    if new.console.listen != current.config.console.listen {
        sockets.console = Some(listen("console.listen", new.console.listen)?);
    }
    Ok(sockets)
}

fn report(outcome: Reloaded, differences: Vec<Difference>) -> ReloadReport {
    let changes = differences.into_iter().map(|difference| ChangedKey {
        key: difference.key,
        old: difference.old,
        new: difference.new,
        needs_restart: difference.counts == Counts::AfterRestart,
    });
    ReloadReport { outcome, changes: changes.collect() }
}

fn refusal(failure: &Failure) -> ApiError {
    let error = ApiError::new(ErrorKind::Refused, format!("nothing was changed: {}", failure.error()));
    match failure.what_to_do() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Reloads when a SIGHUP asks for it; what came of it stands in the node's lines.
pub(super) async fn on_signal<V: NodeView>(reload: &Reload, view: &Arc<V>) {
    match reload.reload(view).await {
        Ok(ReloadReport { outcome: Reloaded::Applied, changes }) => {
            tracing::info!(changes = changes.len(), "the configuration was read again and counts");
        }
        Ok(ReloadReport { outcome: Reloaded::Unchanged, .. }) => {
            tracing::info!("the configuration was read again and is as before");
        }
        Ok(ReloadReport { outcome: Reloaded::Refused, changes }) => {
            let keys: Vec<&str> =
                changes.iter().filter(|c| c.needs_restart).map(|c| c.key.as_str()).collect();
            tracing::error!(keys = keys.join(", "), "nothing was changed: these keys need a restart");
        }
        Err(error) => tracing::error!(hint = error.hint.as_deref().unwrap_or_default(), "{error}"),
    }
}
