//! Waiting for a fact, with a deadline, and making others wait.

use std::{
    fmt::Display,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a fact may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(25);
/// How often a fact is looked at that tells nobody when it comes true.
const GLANCE: Duration = Duration::from_millis(10);

/// An address of this machine that nobody listens on.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    // Below those that Linux gives to whoever asks for any (32768 and up, unless set otherwise): nobody is given it meanwhile.
    let some = std::iter::repeat_with(|| TcpListener::bind(("127.0.0.1", fastrand::u16(10_000..32_000))));
    let socket = some.take(1000).find_map(Result::ok).expect("there is a free port");
    socket.local_addr().expect("it has an address")
}

/// Waits until `fact` yields something.
///
/// # Panics
/// If it has not within [`PATIENCE`]: then `what` says what was missing.
pub fn until<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    settled(what, || fact().ok_or("not so"))
}

/// Waits until `fact` is no error any more.
///
/// # Panics
/// If it still is after [`PATIENCE`]: then `what` and the last error say how things stand.
pub fn settled<T, E: Display>(what: &str, mut fact: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fact() {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}: {error}"),
        }
        thread::park_timeout(GLANCE);
    }
}

/// Lets time pass, where time itself is what a story is about: the moment of a kill.
pub fn pass(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}

/// A gate that is closed until it is opened; whoever comes meanwhile waits before it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    arrived: usize,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until the gate is open, or patience ends.
    pub fn pass(&self) {
        let mut state = locked(&self.0.0);
        state.arrived += 1;
        self.0.1.notify_all();
        let waited = self.0.1.wait_timeout_while(state, PATIENCE, |state| !state.open);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Opens it, for good.
    pub fn open(&self) {
        locked(&self.0.0).open = true;
        self.0.1.notify_all();
    }

    /// Waits until so many have come to the gate.
    ///
    /// # Panics
    /// If they do not come.
    pub fn reached(&self, count: usize) {
        let state = locked(&self.0.0);
        let waited = self.0.1.wait_timeout_while(state, PATIENCE, |state| state.arrived < count);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(state.arrived >= count, "{} of {count} have come to the gate", state.arrived);
    }
}

/// The lock, though somebody else panicked with it: his panic is the test's failure, not this.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
