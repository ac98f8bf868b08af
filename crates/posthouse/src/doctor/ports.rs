//! The ports that the node listens on: free, its own, or another's.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use super::{Finding, Running};
use crate::config::{Config, Role};

const CHECK: &str = "ports";
/// The key of the doors.
const SMTP: &str = "smtp.listen";

pub(super) fn check(config: &Config, running: Option<&Running>) -> Vec<Finding> {
    let smtp = config.smtp.listen.iter().map(|address| (SMTP, address.0));
    let link = (config.cluster.role == Role::Manager).then_some(("cluster.listen", config.cluster.listen.0));
    let all = smtp.chain([("console.listen", config.console.listen.0)]).chain(link);
    all.filter(|(_, address)| address.port() != 0).map(|(key, address)| look(key, address, running)).collect()
}

fn look(key: &str, address: SocketAddr, running: Option<&Running>) -> Finding {
    if key == SMTP && running.is_some_and(waits_for_its_manager) {
        return Finding::warning(
            CHECK,
            format!("the worker listens on {address} ({key}) once its manager has let it in"),
        )
        .advice("`posthouse status` says why it has not yet");
    }
    let error = match TcpListener::bind(address) {
        Ok(_) if running.is_some() => {
            return Finding::warning(CHECK, format!("the node does not listen on {address} ({key})"))
                .advice("look at its lines on standard error, and restart it");
        }
        Ok(_) => return Finding::ok(CHECK, format!("{address} ({key}) is free")),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => taken(key, address, running),
        io::ErrorKind::PermissionDenied if running.is_some() => {
            Finding::skipped(CHECK, format!("{address} ({key}) may be looked at by root alone"))
        }
        io::ErrorKind::PermissionDenied => Finding::problem(
            CHECK,
            format!("{address} ({key}) may not be opened by this user"),
        )
        .advice(
            "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, as the unit does, or take a higher port",
        ),
        io::ErrorKind::AddrNotAvailable => {
            Finding::problem(CHECK, format!("this machine does not have {} ({key})", address.ip()))
                .advice(format!("set {key} to an address of this machine"))
        }
        _ => Finding::problem(CHECK, format!("{address} ({key}) cannot be opened: {error}")),
    }
}

/// Whether the node is a worker that was not let in since its start. Trying its ports would take them from it for a moment.
fn waits_for_its_manager(running: &Running) -> bool {
    running.status.worker.as_ref().is_some_and(|worker| worker.manager.is_empty())
}

fn taken(key: &str, address: SocketAddr, running: Option<&Running>) -> Finding {
    let holder = holder(address);
    let node = running.and_then(|running| running.process);
    match holder {
        Some((process, _)) if Some(process) == node => {
            Finding::ok(CHECK, format!("the node listens on {address} ({key})"))
        }
        Some((process, name)) => {
            Finding::problem(CHECK, format!("{name} (process {process}) listens on {address} ({key})"))
                .advice(format!("stop it, or set {key} to another port"))
        }
        None if node.is_some() => {
            Finding::skipped(CHECK, format!("somebody listens on {address} ({key}); only root may see who"))
        }
        None => Finding::problem(CHECK, format!("another user's program listens on {address} ({key})"))
            .advice(format!("`ss -ltnp` shows root which: stop it, or set {key} to another port")),
    }
}

/// The process that listens on an address, and its name; nothing if it is not for us to see.
fn holder(address: SocketAddr) -> Option<(i32, String)> {
    let table = |name: &str| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let inode = listener(&table("tcp"), address).or_else(|| listener(&table("tcp6"), address))?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let process = numbers.find(|process| {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|link| link.as_os_str() == wanted.as_str())
    })?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some((process, name.trim().to_owned()))
}

/// The inode of the socket that listens on an address or on all of its port, in a table of the kernel: proc_net(5).
fn listener(table: &str, wanted: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, state, inode) = (*fields.get(1)?, *fields.get(3)?, *fields.get(9)?);
        let address = parse(address)?;
        let meets = address.port() == wanted.port()
            && (address.ip() == wanted.ip() || address.ip().is_unspecified() || wanted.ip().is_unspecified());
        (state == LISTENING && meets).then(|| inode.parse().ok())?
    })
}

/// TCP_LISTEN of the kernel.
const LISTENING: &str = "0A";

/// An address of the table: hexadecimal, each 32 bits of it in the order of this machine.
fn parse(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u8>> = (0..ip.len() / 8)
        .map(|at| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat());
    let ip: IpAddr = match words?[..] {
        [a, b, c, d] => Ipv4Addr::new(a, b, c, d).into(),
        ref bytes => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_by_the_address_or_by_all_of_the_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (process, name) = holder(address).unwrap();
        assert_eq!(process.unsigned_abs(), std::process::id());
        assert!(!name.is_empty());
        let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert_eq!(holder(all).map(|(process, _)| process), Some(process));
        drop(listener);
        assert_eq!(holder(address), None);
        let six = TcpListener::bind("[::1]:0").unwrap();
        assert!(holder(six.local_addr().unwrap()).is_some());
    }
}
