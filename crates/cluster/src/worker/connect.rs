//! Keeping a link to the manager: a certificate, a connection, and another try when it has gone.

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use base::{Shutdown, Timestamp};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use tokio::{io::BufReader, net::TcpStream};
use tonic::transport::{Channel, Endpoint};

use super::{Certified, Link, Shared, streams};
use crate::{
    authority::{self, Certificate},
    identity::CERTIFICATE_LIFE,
    tls::{ConnectError, Credential, NotAdmitted},
    wire::{
        CONNECTION_WINDOW, CertifyRequest, FRAME, READ, Refused, STREAM_WINDOW,
        joining_client::JoiningClient, refused::Reason,
    },
};

/// How long a connection and its handshake may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long to wait for the answer to a question.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// The first and the longest wait before another try.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A link that was there for so long has lasted: the next wait is the first again.
const LASTING: Duration = Duration::from_secs(2);
/// Who is not let in tries again this often: only an operator can change that.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// When a certificate could not be renewed, it is tried again after this time.
const RENEW_AGAIN: Duration = Duration::from_secs(600);

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The manager cannot be reached.
    #[error("{manager} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        manager: String,
        /// Why.
        why: String,
    },
    /// What answers there has not proven to be it, or one of the two is set up wrongly.
    #[error("{manager}: {why}")]
    NotLetIn {
        /// Its address.
        manager: String,
        /// Why.
        why: String,
    },
    /// It is the manager, and it does not admit this node's key.
    #[error("{manager}: {why}")]
    NotAdmitted {
        /// Its address.
        manager: String,
        /// Why.
        why: String,
        /// What has become of this node's key.
        told: NotAdmitted,
    },
    /// It does not want this node.
    #[error("the manager refuses this node: {text}")]
    Refused {
        /// In its words.
        text: String,
        /// What has become of this node, if it is that.
        told: Option<NotAdmitted>,
    },
    /// The link broke.
    #[error("the link broke: {0}")]
    Broke(String),
    /// It has no room for one more stream of this kind now.
    #[error("the manager has no room for it now: {0}")]
    NoRoom(String),
    /// What was asked for is damaged at the manager.
    #[error("it is damaged at the manager: {0}")]
    Damaged(String),
}

impl Trouble {
    /// Whether only an operator can mend it.
    fn is_lasting(&self) -> bool {
        matches!(self, Self::NotLetIn { .. }) || self.is_refusal()
    }

    /// The manager's no to a hello.
    pub(super) fn refused(refused: Refused) -> Self {
        let told = (refused.reason() == Reason::Clone).then_some(NotAdmitted::Quarantined);
        Self::Refused { text: refused.text, told }
    }

    /// Whether it is the manager's own word that it will not have this node. Whoever else answers at its address cannot say that.
    const fn is_refusal(&self) -> bool {
        matches!(self, Self::NotAdmitted { .. } | Self::Refused { .. })
    }

    /// What the manager has said of this node when it did not let it in.
    const fn told(&self) -> Option<NotAdmitted> {
        match self {
            Self::NotAdmitted { told, .. } => Some(*told),
            Self::Refused { told, .. } => *told,
            Self::Unreachable { .. }
            | Self::NotLetIn { .. }
            | Self::Broke(_)
            | Self::NoRoom(_)
            | Self::Damaged(_) => None,
        }
    }
}

impl From<tonic::Status> for Trouble {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            tonic::Code::ResourceExhausted => Self::NoRoom(status.message().to_owned()),
            tonic::Code::DataLoss => Self::Damaged(status.message().to_owned()),
            _ => Self::Broke(match broken(&status) {
                // What the library says of an end without TLS's own goodbye; most ends are such.
                Some(why) if why.contains("close_notify") => "the manager closed the connection".into(),
                Some(why) => format!("the manager, or the network, has ended it: {why}"),
                None => status.message().to_owned(),
            }),
        }
    }
}

/// What broke a connection, in the words of whoever found it broken; nothing if the manager has said what is wrong.
fn broken(status: &tonic::Status) -> Option<String> {
    let mut innermost: &dyn Error = status.source()?;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Some(innermost.to_string())
}

/// Keeps a link until the node stops.
pub(super) async fn keep(shared: &Arc<Shared>, shutdown: &Shutdown) {
    let mut backoff = Backoff::default();
    let mut said = String::new();
    while !shutdown.is_stopping() {
        let trouble = match streams::run(shared, shutdown).await {
            Ok(()) => return,
            Err(trouble) => trouble,
        };
        let lasted = match shared.state.borrow().link {
            Link::Up { since } => Some(since.elapsed()),
            Link::Away { .. } | Link::Refused { .. } => None,
        };
        shared.away(&trouble);
        if lasted.is_some() {
            said.clear();
        }
        // One that breaks as soon as it is there is no better than none.
        if lasted.is_some_and(|lasted| lasted >= LASTING) {
            backoff = Backoff::default();
        }
        let text = trouble.to_string();
        // Each reason is said once, and not with each try.
        if text != said {
            tracing::warn!("no link to the manager: {text}; it is tried again");
            said = text;
        }
        let wait =
            backoff.next(if trouble.is_lasting() { REFUSED_WAIT } else { Duration::ZERO }, fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.stopping() => return,
        }
    }
}

/// How long to wait before the next try: each time up to twice as long, and up to a half less by chance, so that nodes that have lost
/// their manager together do not come back together.
#[derive(Debug)]
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(SHORTEST_WAIT)
    }
}

impl Backoff {
    /// The wait, of which the longest is `least` at least; `random` is in 0..1.
    fn next(&mut self, least: Duration, random: f64) -> Duration {
        let longest = self.0.max(least);
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
        longest.mul_f64(0.5 + random / 2.0)
    }
}

impl Shared {
    fn away(&self, trouble: &Trouble) {
        let why: Arc<str> = trouble.to_string().into();
        self.state.send_modify(|state| {
            let since = match &state.link {
                Link::Away { since, .. } | Link::Refused { since, .. } => *since,
                Link::Up { .. } => std::time::Instant::now(),
            };
            if trouble.is_refusal() {
                state.link = Link::Refused { since, why, told: trouble.told() };
            } else if !matches!(state.link, Link::Refused { .. }) {
                state.link = Link::Away { since, why };
            }
        });
        if trouble.is_refusal() {
            self.offers.lock().refused();
        }
    }

    /// A connection for the link, with a certificate that counts.
    pub(super) async fn dial(&self) -> Result<Channel, Trouble> {
        let certificate = self.certificate().await?;
        match self.dial_with(Credential::Issued(&certificate.chain)).await {
            // The manager knows better than our clock, or its authority was made anew.
            Err(Dial::Tls(ConnectError::Expired | ConnectError::OtherAuthority)) => {
                *self.certificate.lock() = None;
                let certificate = self.certificate().await?;
                self.dial_with(Credential::Issued(&certificate.chain))
                    .await
                    .map_err(|dial| self.trouble(dial))
            }
            other => other.map_err(|dial| self.trouble(dial)),
        }
    }

    fn trouble(&self, dial: Dial) -> Trouble {
        let manager = self.options.manager.clone();
        match dial {
            Dial::Unreachable(why) => Trouble::Unreachable { manager, why },
            Dial::Tls(ConnectError::Refused(told)) => {
                let error = ConnectError::Refused(told);
                let why = match told {
                    NotAdmitted::Unknown => format!(
                        "{error}; there, `posthouse nodes add-key '{}' --name {}` lets it in",
                        self.identity.public_key(),
                        self.options.name.as_deref().unwrap_or("NAME"),
                    ),
                    NotAdmitted::Removed | NotAdmitted::Quarantined => error.to_string(),
                };
                Trouble::NotAdmitted { manager, why, told }
            }
            Dial::Tls(error @ ConnectError::WrongPin { .. }) => {
                let why = format!(
                    "{error}; if `posthouse identity show --pin` on the manager prints that, start this node with it"
                );
                Trouble::NotLetIn { manager, why }
            }
            Dial::Tls(error) => {
                let why = error.to_string();
                match error {
                    ConnectError::Network(_) | ConnectError::Deadline(_) => {
                        Trouble::Unreachable { manager, why }
                    }
                    _ => Trouble::NotLetIn { manager, why },
                }
            }
        }
    }

    async fn dial_with(&self, credential: Credential<'_>) -> Result<Channel, Dial> {
        let unreachable = |error: std::io::Error| Dial::Unreachable(error.to_string());
        let connect = TcpStream::connect(&self.options.manager);
        let stream = tokio::time::timeout(CONNECT, connect)
            .await
            .map_err(|_| Dial::Unreachable(format!("no answer within {} s", CONNECT.as_secs())))?
            .map_err(unreachable)?;
        // Without it small words would wait for company; a socket that refuses is broken anyhow.
        let _ = stream.set_nodelay(true);
        let stream = BufReader::with_capacity(READ, stream);
        let stream = self.tls.connect(stream, credential, CONNECT).await.map_err(Dial::Tls)?;
        let mut stream = Some(TokioIo::new(stream));
        // One connection, which is not made again behind our back.
        let connector = tower::service_fn(move |_| {
            let taken = stream.take().ok_or(std::io::ErrorKind::NotConnected);
            std::future::ready(taken.map_err(std::io::Error::from))
        });
        Endpoint::from_static("http://manager.posthouse.internal")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .http2_keep_alive_interval(CONNECT)
            .keep_alive_timeout(CONNECT)
            .connect_with_connector(connector)
            .await
            .map_err(|error| Dial::Unreachable(error.to_string()))
    }

    /// A certificate that counts: the one there is, or a new one.
    async fn certificate(&self) -> Result<Certificate, Trouble> {
        if let Some(certified) = self.certificate.lock().clone()
            && self.clock.now() < certified.certificate.not_after
        {
            return Ok(certified.certificate);
        }
        self.join().await
    }

    /// Asks the manager for a certificate.
    pub(super) async fn join(&self) -> Result<Certificate, Trouble> {
        let channel = self.dial_with(Credential::SelfSigned).await.map_err(|dial| self.trouble(dial))?;
        let node = Bytes::copy_from_slice(&self.identity.id().to_bytes());
        let mut client = JoiningClient::new(channel);
        let asked = client.certify(CertifyRequest { node });
        let answer = tokio::time::timeout(ANSWER, asked)
            .await
            .map_err(|_| Trouble::Broke("the manager does not answer".into()))??
            .into_inner();
        let certificate = Certificate {
            chain: answer.chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
            not_after: Timestamp::from_micros(answer.not_after_micros),
        };
        // By the manager's time, which our clock need not know yet.
        let issued_at = certificate.not_after - CERTIFICATE_LIFE;
        let renew = authority::renewal(issued_at, fastrand::f64());
        *self.certificate.lock() = Some(Certified { certificate: certificate.clone(), renew });
        Ok(certificate)
    }

    /// Renews the certificate whenever it is time; it is looked this often. A manager that does not answer keeps it for long.
    pub(super) async fn keep_certified(&self, look: Duration) -> Infallible {
        let mut looks = tokio::time::interval(look);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.renew_if_due().await;
        }
    }

    async fn renew_if_due(&self) {
        let now = self.clock.now();
        let due = match &mut *self.certificate.lock() {
            Some(certified) if now >= certified.renew => {
                certified.renew = now + RENEW_AGAIN;
                true
            }
            _ => false,
        };
        if due && let Err(error) = self.join().await {
            tracing::warn!(%error, "the certificate could not be renewed; it is tried again");
        }
    }
}

/// Why a connection came to nothing.
enum Dial {
    Unreachable(String),
    Tls(ConnectError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_up_to_twice_as_long_and_up_to_a_half_less_by_chance() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..7).map(|_| backoff.next(Duration::ZERO, 1.0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff.next(Duration::ZERO, 0.0), LONGEST_WAIT / 2);
        assert_eq!(backoff.next(REFUSED_WAIT, 0.5), REFUSED_WAIT * 3 / 4);
        assert_eq!(Backoff::default().next(REFUSED_WAIT, 1.0), REFUSED_WAIT);
    }
}
