//! What systemd is told of a node that it has started: that it is ready, reads its configuration again, lives, or stops.
//!
//! Datagrams to the socket that `NOTIFY_SOCKET` names, a line for each assignment: sd_notify(3). Elsewhere nothing is told.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes mail in.
    Ready,
    /// It reads its configuration; `Ready` follows.
    Reloading,
    /// It stops.
    Stopping,
    /// It lives (`WatchdogSec=`).
    Alive,
    /// A line for `systemctl status`.
    Status(String),
}

impl State {
    fn text(&self) -> String {
        match self {
            Self::Ready => "READY=1".into(),
            Self::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic().as_micros()),
            Self::Stopping => "STOPPING=1".into(),
            Self::Alive => "WATCHDOG=1".into(),
            Self::Status(line) => format!("STATUS={}", line.replace('\n', " ")),
        }
    }
}

/// Tells systemd, if it wants to hear.
///
/// # Errors
/// It wants to, and its socket refuses.
pub fn notify(state: &State) -> io::Result<()> {
    match env::var_os("NOTIFY_SOCKET") {
        Some(path) if !path.is_empty() => send(&path, state),
        _ => Ok(()),
    }
}

fn send(path: &OsStr, state: &State) -> io::Result<()> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // Whoever supervises us must not be able to hold us up.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.text().as_bytes(), &address).map(drop)
}

/// How often systemd wants to hear that the node lives, if it does: half of what it allows, as sd_watchdog_enabled(3) advises.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
    let is_for_us = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
    let allowed = number("WATCHDOG_USEC").filter(|micros| is_for_us && *micros > 0)?;
    Some(Duration::from_micros(allowed / 2))
}

/// The time since the machine's start.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(socket: &UnixDatagram, path: &OsStr, state: &State) -> String {
        send(path, state).unwrap();
        let mut bytes = [0; 200];
        let len = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    #[test]
    fn each_state_is_a_datagram_to_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        assert_eq!(told(&socket, path.as_os_str(), &State::Ready), "READY=1");
        assert_eq!(told(&socket, path.as_os_str(), &State::Status("a\nb".into())), "STATUS=a b");
        let before = monotonic().as_micros();
        let reloading = told(&socket, path.as_os_str(), &State::Reloading);
        let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u128>().unwrap();
        assert!((before..=monotonic().as_micros()).contains(&at), "{reloading}");

        let name = format!("posthouse-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert_eq!(told(&socket, OsStr::new(&format!("@{name}")), &State::Alive), "WATCHDOG=1");
        assert!(send(OsStr::new("/nowhere/notify"), &State::Stopping).is_err());
    }
}
