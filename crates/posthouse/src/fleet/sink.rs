//! The next hop of a fleet, within this process: it counts what comes, and from which node.

use std::{io, net::Ipv4Addr, sync::Arc};

use smtp::{Address, Reply};

use super::Account;
use crate::sink::{Behaviour, Sink, Taken, Thinks};

/// The name that a node calls itself, by its number from 1.
pub(super) fn ehlo(number: usize) -> String {
    format!("mx{number}.example.org")
}

/// The number of a node in the order of the fleet, from 0.
fn number(ehlo: &str) -> Option<usize> {
    ehlo.strip_prefix("mx")?.strip_suffix(".example.org")?.parse::<usize>().ok()?.checked_sub(1)
}

/// Starts a sink that tells the account of everything.
///
/// # Errors
/// There is no port for it.
pub(crate) async fn start(account: &Arc<Account>, thinks: Thinks) -> io::Result<Sink> {
    let (judge, witness) = (account.clone(), account.clone());
    let behaviour = Behaviour {
        judge: Arc::new(move |recipient| judged(&judge, recipient)),
        witness: Arc::new(move |taken: Taken| witness.came(number(&taken.client), &taken.recipients)),
        thinks,
        ..Behaviour::default()
    };
    Sink::start((Ipv4Addr::LOCALHOST, 0).into(), behaviour).await
}

/// The sink's moods: it takes nearly everybody.
fn judged(account: &Account, recipient: &Address) -> Option<Reply> {
    match recipient.domain() {
        "gone.example" => {
            account.refused(recipient);
            Some(Reply::new(550, (5, 1, 1), "nobody of this name lives here"))
        }
        "busy.example" if fastrand::bool() => {
            account.deferred(recipient);
            Some(Reply::new(450, (4, 2, 1), "busy, come back later"))
        }
        _ => None,
    }
}
