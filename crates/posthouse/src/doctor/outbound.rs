//! Whether mail can leave: many networks block port 25.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use super::{Finding, Patient};

const CHECK: &str = "outbound";
/// How long a host may take to answer, and to greet.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most addresses that are tried.
const MOST: usize = 4;

pub(super) async fn check(patient: &Patient) -> Finding {
    let config = patient.mail_config();
    let (name, addresses) = match (&patient.outbound, &patient.domain) {
        (Some(hop), _) => (hop.to_string(), mail::hop_addresses(&config, hop).await),
        (None, Some(domain)) => {
            let hosts = mail::mail_hosts(&config, domain).await;
            let all = hosts.map(|hosts| hosts.into_iter().flat_map(|host| host.addresses).collect());
            (format!("the mail hosts of {domain}"), all)
        }
        (None, None) => {
            return Finding::skipped(
                CHECK,
                "nothing was tried; --domain NAME connects to its mail hosts, --outbound HOST:PORT to a host",
            );
        }
    };
    let addresses: Vec<SocketAddr> = match addresses {
        Ok(addresses) => addresses,
        Err(error) => return Finding::skipped(CHECK, error),
    };
    let mut failures = Vec::new();
    for address in addresses.into_iter().take(MOST) {
        match timeout(PATIENCE, greeting(address)).await {
            Ok(Ok(greeting)) => return Finding::ok(CHECK, format!("{address} greets: {greeting}")),
            Ok(Err(error)) => failures.push(format!("{address}: {error}")),
            Err(_) => failures.push(format!("{address}: silent for {} seconds", PATIENCE.as_secs())),
        }
    }
    Finding::problem(CHECK, format!("{name} cannot be reached: {}", failures.join("; "))).advice(
        "if all hosts are silent, your network blocks the port: have it opened, or use a smarthost on another port",
    )
}

/// The first line that a host says, up to 500 bytes of it.
async fn greeting(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let mut bytes = Vec::with_capacity(500);
    while bytes.len() < 500 && !bytes.contains(&b'\n') {
        if stream.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&bytes);
    let line = line.lines().next().unwrap_or_default().trim().to_owned();
    if line.starts_with("220") { Ok(line) } else { Err(io::Error::other(format!("it says: {line}"))) }
}
