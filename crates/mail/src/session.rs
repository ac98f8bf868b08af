//! One session of a client: drives the protocol over its socket, and asks policy and intake.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use queue::QueueError;
use smtp::{
    Address, Reply,
    server::{BodyFacts, Config as ServerConfig, Event, Hello, MailFrom, Server},
};
use socket2::SockRef;
use tokio::time::timeout;

use crate::{
    Config, Source,
    budget::{Budget, Share},
    intake::{Bringer, Draft, Handling, Intake},
    policy::{self, Standing},
    refusals::Refusal,
    registry::{Goodbye, Place},
};

/// What all sessions of a listener share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) intake: Arc<Intake>,
    /// What the protocol of new sessions is set up with.
    pub(crate) server: Mutex<Arc<ServerConfig>>,
    pub(crate) budget: Arc<Budget>,
}

/// Most bytes read at once.
const READ: usize = 32 << 10;
/// What a message takes of the memory budget before its text comes, in bytes.
const LEAST: usize = 4 << 10;
/// How long we listen on after our last word, and to how many bytes.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;
/// From when on the average rate of a text must be kept.
const RATE_AFTER: Duration = Duration::from_secs(60);

/// So many times the largest message may be sent in one text before the session is ended: what is too large is refused
/// at its end, which has to come.
const SWALLOWED: u64 = 4;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    /// As it was when the last message began.
    config: Arc<Config>,
    place: Place,
    peer: SocketAddr,
    server: Server,
    standing: Standing,
    account: Arc<str>,
    message: Option<Box<Message>>,
    pace: Option<Pace>,
}

/// The message that is being taken in.
#[derive(Debug)]
struct Message {
    mail: MailFrom,
    handling: Handling,
    recipients: Vec<Address>,
    draft: Option<Draft>,
    share: Share,
    /// Bytes that its envelope takes.
    envelope: usize,
}

/// How fast a text comes in, also one that is only swallowed.
#[derive(Debug)]
struct Pace {
    began: Instant,
    received: u64,
}

/// Whether a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, place: Place, peer: SocketAddr) -> Self {
        let config = shared.intake.config.now();
        let standing = Standing::of(peer.ip(), &config.relay);
        let account = policy::account(peer.ip()).into();
        let server = Server::new(shared.server.lock().clone()).holding_from(shared.intake.clock.now());
        Self { shared, config, place, peer, server, standing, account, message: None, pace: None }
    }

    /// Serves the client until either side ends it.
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.serve().await {
            tracing::debug!(peer = %self.peer, %error, "session broke off");
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        self.flush().await?;
        loop {
            self.place.stream().readable().await?;
            // The buffer lives only while there is something in it: most sessions wait.
            let mut buffer = Vec::with_capacity(READ);
            match self.place.stream().try_read_buf(&mut buffer) {
                Ok(0) => return self.end_of_input().await,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            self.place.heard();
            let then = self.take(&buffer).await?;
            let then = if then == Then::GoOn { self.watch_pace(buffer.len()) } else { then };
            drop(buffer);
            self.flush().await?;
            if then == Then::Close {
                return self.linger().await;
            }
            if self.server.is_idle() {
                self.place.ended();
                // A stop waits for the end of a transaction, and for no other to begin.
                if self.place.goodbye() == Some(Goodbye::Stopping) {
                    return self.end_of_input().await;
                }
            }
        }
    }

    /// Ends a session whose text comes too slowly, or does not end.
    fn watch_pace(&mut self, read: usize) -> Then {
        if self.server.is_in_text() {
            self.pace.get_or_insert_with(|| Pace { began: Instant::now(), received: 0 });
        } else if self.server.is_idle() {
            self.pace = None;
        }
        // Between the chunks of a text the watch goes on.
        let Some(pace) = &mut self.pace else { return Then::GoOn };
        pace.received += read as u64;
        let limits = &self.config.limits;
        let reply = if pace.is_too_slow(limits.data_rate.0) {
            Reply::new(421, (4, 4, 2), "the text comes too slowly, closing")
        } else if pace.received > SWALLOWED.saturating_mul(limits.session.message.0) {
            Reply::new(421, (4, 3, 4), "the text does not end, closing")
        } else {
            return Then::GoOn;
        };
        self.message = None;
        self.server.close(&reply);
        Then::Close
    }

    /// The client closed its side, or the registry did.
    async fn end_of_input(&mut self) -> io::Result<()> {
        let reply = match self.place.goodbye() {
            None => return Ok(()),
            Some(Goodbye::Idle) => Reply::new(421, (4, 4, 2), "silent for too long, closing"),
            Some(Goodbye::Stopping) => stopping(),
        };
        self.server.close(&reply);
        self.flush().await?;
        self.linger().await
    }

    /// Lets the client read our last word: closing while input of his is unread would take it back from him.
    async fn linger(&mut self) -> io::Result<()> {
        // A socket that refuses is closed already.
        let _ = SockRef::from(self.place.stream()).shutdown(Shutdown::Write);
        let swallow = async {
            let mut swallowed = 0;
            let mut buffer = Vec::with_capacity(READ);
            while swallowed < LINGER_BYTES {
                self.place.stream().readable().await?;
                buffer.clear();
                match self.place.stream().try_read_buf(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(read) => swallowed += read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        timeout(LINGER, swallow).await.unwrap_or(Ok(()))
    }

    /// Takes all that was read.
    async fn take(&mut self, mut input: &[u8]) -> io::Result<Then> {
        loop {
            match self.server.advance(&mut input) {
                Event::NeedInput => return Ok(Then::GoOn),
                Event::Mail(mail) => self.mail(mail),
                Event::Rcpt(recipient) => self.recipient(recipient).await,
                Event::BodyStart => self.text_begins().await,
                Event::Body(piece) => self.text(piece).await,
                Event::BodyEnd(facts) => {
                    // What came before is answered while this is being synced.
                    self.flush().await?;
                    self.text_ends(&facts).await;
                }
                Event::BodyRefused(reply) => {
                    tracing::info!(peer = %self.peer, %reply, "message refused");
                    self.reject_all(&reply);
                }
                Event::Aborted => self.message = None,
                Event::Quit | Event::Close => return Ok(Then::Close),
            }
        }
    }

    fn mail(&mut self, mail: MailFrom) {
        if self.place.goodbye() == Some(Goodbye::Stopping) || !self.place.begin() {
            return self.server.reject(&stopping());
        }
        self.pace = None;
        self.config = self.shared.intake.config.now();
        self.standing = Standing::of(self.peer.ip(), &self.config.relay);
        if let Err(error) = self.shared.intake.publisher.takes() {
            let reply = if matches!(error, QueueError::Away) { out_of_reach() } else { not_stored(&error) };
            return self.server.reject(&reply);
        }
        let now = self.shared.intake.clock.now();
        let handling = match policy::handling(self.standing, &mail, &self.config, now) {
            Ok(handling) => handling,
            Err(reply) => return self.server.reject(&reply),
        };
        let mut share = self.shared.budget.share();
        if share.hold(LEAST).is_err() {
            return self.server.reject(&out_of_memory());
        }
        let message = Message { mail, handling, recipients: Vec::new(), draft: None, share, envelope: LEAST };
        self.message = Some(Box::new(message));
        self.server.accept();
    }

    async fn recipient(&mut self, recipient: Address) {
        let allowed = match policy::recipient(self.standing, &recipient, &self.config) {
            Ok(()) => self.shared.intake.not_suppressed(&recipient).await,
            Err(reply) => Err(reply),
        };
        if let Err(reply) = allowed {
            tracing::info!(peer = %self.peer, %recipient, %reply, "recipient refused");
            self.shared.intake.counters.rejected.add(1);
            self.note_refusal(&recipient, &reply);
            return self.server.reject(&reply);
        }
        let Some(message) = &mut self.message else {
            return self.server.reject(&Reply::closing("out of step"));
        };
        message.envelope += recipient.as_str().len() + size_of::<Address>();
        if message.share.hold(message.envelope).is_err() {
            return self.server.reject(&out_of_memory());
        }
        message.recipients.push(recipient);
        self.server.accept();
    }

    async fn text_begins(&mut self) {
        self.pace = None;
        let Some(mut message) = self.message.take() else {
            return self.server.reject(&Reply::closing("out of step"));
        };
        let hello = self.server.hello().cloned();
        let Some(hello) = hello else { return self.server.reject(&Reply::closing("out of step")) };
        let recipients = std::mem::take(&mut message.recipients);
        let handling = std::mem::take(&mut message.handling);
        match self.shared.intake.begin(&self.bringer(&hello), &message.mail, recipients, handling).await {
            Ok(draft) => {
                if message.share.hold(message.envelope + draft.body.held()).is_err() {
                    return self.server.reject(&out_of_memory());
                }
                message.draft = Some(draft);
                self.message = Some(message);
                self.server.accept();
            }
            Err(error) => self.server.reject(&self.failed(&error)),
        }
    }

    async fn text(&mut self, piece: &[u8]) {
        let Some(message) = &mut self.message else { return };
        let Some(draft) = &mut message.draft else { return };
        let written = draft.body.write(piece).await;
        let held = message.share.hold(message.envelope + draft.body.held());
        let refusal = match (written, held) {
            (Ok(()), Ok(())) => return,
            (Ok(()), Err(_)) => out_of_memory(),
            (Err(error), _) => self.failed(&error),
        };
        self.message = None;
        self.server.discard(refusal);
    }

    async fn text_ends(&mut self, facts: &BodyFacts) {
        self.pace = None;
        let Some(mut message) = self.message.take() else {
            return self.server.finish(&Reply::closing("out of step"));
        };
        let (Some(draft), Some(hello)) = (message.draft.take(), self.server.hello().cloned()) else {
            return self.server.finish(&Reply::closing("out of step"));
        };
        self.place.busy();
        let published = self.shared.intake.publish(&self.bringer(&hello), draft, facts).await;
        self.place.heard();
        let reply = match published {
            Ok(id) => Reply::new(250, (2, 0, 0), format!("queued as {id}")),
            Err(error) => self.failed(&error),
        };
        self.server.finish(&reply);
    }

    fn reject_all(&mut self, reply: &Reply) {
        let Some(mut message) = self.message.take() else { return };
        let Some(draft) = message.draft.take() else { return };
        self.shared.intake.counters.rejected.add(draft.recipients.len() as u64);
        self.message = Some(message);
        for recipient in &draft.recipients {
            self.note_refusal(recipient, reply);
        }
        self.message = None;
    }

    /// Notes for the message log what never becomes work.
    fn note_refusal(&self, recipient: &Address, reply: &Reply) {
        let sender = self.message.as_ref().map(|message| message.mail.sender.as_str().to_owned());
        self.shared.intake.refusals.note(Refusal {
            at: self.shared.intake.clock.now(),
            node: self.config.node.clone(),
            client: Some(self.peer),
            helo: self.server.hello().map(|hello| hello.name.to_string()).unwrap_or_default(),
            sender: sender.unwrap_or_default(),
            recipient: recipient.as_str().to_owned(),
            reply: reply.to_string(),
        });
    }

    fn bringer<'a>(&self, hello: &'a Hello) -> Bringer<'a> {
        Bringer { source: Source::Smtp, client: Some(self.peer), hello, account: self.account.clone() }
    }

    /// Our answer when the queue does not take a message.
    fn failed(&self, error: &QueueError) -> Reply {
        tracing::warn!(peer = %self.peer, %error, "message not stored");
        not_stored(error)
    }

    /// Writes what is to be said.
    async fn flush(&mut self) -> io::Result<()> {
        let mut at = 0;
        while at < self.server.output().len() {
            match self.place.stream().try_write(&self.server.output()[at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => at += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.place.stream().writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        self.server.output().clear();
        Ok(())
    }
}

impl Pace {
    fn is_too_slow(&self, bytes_per_second: u64) -> bool {
        let time = self.began.elapsed();
        time > RATE_AFTER && self.received < bytes_per_second.saturating_mul(time.as_secs())
    }
}

fn not_stored(error: &QueueError) -> Reply {
    match error {
        QueueError::NoSpace => no_space(),
        QueueError::TooLarge(_) => Reply::new(552, (5, 3, 4), "too large for this system"),
        QueueError::Closed => stopping(),
        QueueError::Away | QueueError::Damaged(_) | QueueError::Disk(_) | QueueError::Refused(_) => {
            Reply::new(451, (4, 3, 0), "the message could not be stored; try again later")
        }
    }
}

/// It ends the session, so that the client goes to another address at once.
fn out_of_reach() -> Reply {
    Reply::closing("this node can bring nothing to its manager now; try another, or try again later")
}

fn stopping() -> Reply {
    Reply::closing("the service is stopping; try again soon")
}

fn no_space() -> Reply {
    Reply::new(452, (4, 3, 1), "no space left for mail; try again later")
}

fn out_of_memory() -> Reply {
    Reply::new(452, (4, 3, 1), "too much mail is coming in at once; try again later")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_too_slow_only_after_its_first_minute_and_only_below_the_rate() {
        let pace = |seconds, received| Pace {
            began: Instant::now()
                .checked_sub(Duration::from_secs(seconds))
                .expect("the machine is up for so long"),
            received,
        };
        assert!(!pace(59, 0).is_too_slow(256));
        assert!(pace(61, 61 * 255).is_too_slow(256));
        assert!(!pace(61, 61 * 257).is_too_slow(256));
    }
}
