//! The listeners: sockets on which sessions come in.

use std::{fs::File, net::SocketAddr, sync::Arc, time::Duration};

use base::Shutdown;
use smtp::Reply;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    doors::SESSION,
    exhausted::is_exhausted,
    registry::{Registry, Room, TurnedAway},
    session::{Session, Shared},
};

/// How long to wait when no connection can be taken, because descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes sessions in until the node stops.
pub(crate) async fn listen(
    listener: TcpListener,
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    shutdown: Shutdown,
) {
    let mut spare = spare();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopping() => return,
        };
        match accepted {
            Ok((stream, peer)) => open(stream, peer, &shared, &registry, &shutdown),
            Err(error) if !is_exhausted(&error) => {
                tracing::debug!(%error, "a client has gone before it was let in");
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken; raise the limit of open files if this goes on");
                drop(spare.take());
                // With the descriptor that is free now, whoever waits longest hears why he has to go.
                if let Ok(Ok((stream, peer))) = tokio::time::timeout(PAUSE, listener.accept()).await {
                    turn_away(&stream, peer, TurnedAway::NoDescriptors, &shared);
                    drop(stream);
                } else {
                    tokio::time::sleep(PAUSE).await;
                }
                spare = self::spare();
            }
        }
    }
}

/// A descriptor that is held only to be given up when there are no others.
fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn open(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    registry: &Arc<Registry>,
    shutdown: &Shutdown,
) {
    // Without it replies would wait for company; a socket that refuses is broken anyhow.
    let _ = stream.set_nodelay(true);
    let counters = &shared.intake.counters;
    let limits = &shared.intake.config.now().limits;
    if shared.budget.is_tight() {
        return turn_away(&stream, peer, TurnedAway::NoMemory, shared);
    }
    let room = Room { sessions: limits.sessions, per_client: limits.sessions_per_client };
    match registry.admit(stream, peer.ip(), room) {
        Ok(place) => {
            counters.sessions.add(1);
            let session = Session::new(shared.clone(), place, peer);
            let activity = shutdown.activity(SESSION);
            tokio::spawn(async move {
                session.run().await;
                drop(activity);
            });
        }
        Err((stream, why)) => turn_away(&stream, peer, why, shared),
    }
}

fn turn_away(stream: &TcpStream, peer: SocketAddr, why: TurnedAway, shared: &Shared) {
    shared.intake.counters.turned_away.add(1);
    tracing::info!(%peer, ?why, "session turned away");
    let text = match why {
        TurnedAway::Full => "too many sessions; try again later",
        TurnedAway::ClientFull => "too many sessions from your address; try again later",
        TurnedAway::NoMemory => "too much mail is coming in at once; try again later",
        TurnedAway::NoDescriptors => "too many connections are open; try again later",
        TurnedAway::Stopping => "the service is stopping; try again soon",
    };
    let mut bytes = Vec::new();
    Reply::new(421, (4, 7, 0), text).write(&mut bytes);
    // It fits into an empty socket buffer, or the client is gone.
    let _ = stream.try_write(&bytes);
}
