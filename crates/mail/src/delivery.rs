//! Delivery of one burst, at the works' home: leases them, has them attempted, and concludes each as its outcome comes.

use std::{sync::Arc, time::Duration};

use base::{Clock, WorkId};
use queue::{
    BodySource, Committing, Concluded, Conclusion, Holder, Lease, LeaseOver, Leased, Patience, Publication,
    Queue, QueueError, Reason, Recipients, Ticket, WorkInfo,
};
use smtp::Address;
use tokio::time::timeout;

use crate::{
    Config, Counters, Live,
    attempt::{self, Home, Tools},
    bounce::Bounces,
    burst::{Burst, Hop, Item, Tried},
    connection::Kept,
    dispatcher::Way,
    envelope::{
        Became, Detail, Header, RecipientWords, RecordWords, Repeated, State, WordsError, decode, encode,
    },
    lately::Lately,
    outcome::{self, Outcome},
    resolver::{NoWay, Resolver},
    tls::Handshakes,
};

/// What all deliveries share.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) config: Live,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) bounces: Bounces,
    pub(crate) holder: Holder,
    pub(crate) resolver: Resolver,
    pub(crate) handshakes: Handshakes,
    /// Addresses that could not be reached.
    pub(crate) dead: Lately,
}

/// How long one burst may take at most, however busy the next hop seems.
const BURST_ENDS: Duration = Duration::from_secs(2 * 3600);

/// A work that was leased for this burst, while it is being attempted.
#[derive(Debug)]
struct Job {
    info: WorkInfo,
    header: Header,
    recipients: Vec<Address>,
    body: BodySource,
    right: Right,
}

/// What we may do with the work.
#[derive(Debug)]
enum Right {
    Lease(Lease),
    Committing(Committing),
    /// It was concluded, or taken back.
    None,
}

impl Delivery {
    /// Delivers works that may go now, all the same way.
    pub(crate) async fn run(&self, way: &Way, works: Vec<Ticket>) {
        let config = self.config.now();
        let leased = self.queue.lease(self.holder, Patience::Unlimited, works).await;
        let now = self.clock.now();
        let mut jobs = Vec::with_capacity(leased.len());
        for leased in leased {
            let state = State::read(&leased.words.state);
            match Job::new(leased) {
                Ok(job) if job.info.expires <= now => {
                    let outcome = outcome::of_expiry(&job.info, state.unwrap_or_default(), now);
                    self.conclude(job, outcome).await;
                }
                Ok(job) => jobs.push(job),
                Err((work, error)) => tracing::error!(%work, %error, "held back: its words cannot be read"),
            }
        }
        if jobs.is_empty() {
            return;
        }
        let hop = match self.resolve(way, &config).await {
            Ok(hop) => hop,
            Err(no_way) => {
                for job in jobs {
                    let (retry, spread) = (&config.delivery.retry, fastrand::f64());
                    let outcome = outcome::of_no_way(&job.info, &no_way, self.clock.now(), retry, spread);
                    self.conclude(job, outcome).await;
                }
                return;
            }
        };
        let burst = Burst { hop, items: jobs.iter().map(Job::item).collect() };
        let mut home = Here { delivery: self, config: &config, jobs };
        let tools = Tools {
            kept: &self.kept,
            dead: &self.dead,
            handshakes: &self.handshakes,
            roots: config.delivery.tls.roots.as_deref(),
            timeouts: &config.delivery.timeouts,
            counters: &self.counters,
            clock: &self.clock,
        };
        if timeout(BURST_ENDS, attempt::run(&burst, &mut home, tools)).await.is_err() {
            tracing::warn!(hop = burst.hop.name, "a next hop kept us too long; what is left is tried again");
        }
    }

    /// The hosts on a way, by name and address.
    async fn resolve(&self, way: &Way, config: &Config) -> Result<Hop, NoWay> {
        let (name, hosts) = match way {
            Way::Hop(hop) => (hop.to_string(), vec![self.resolver.next_hop(hop).await?]),
            Way::Domain(domain) => {
                let exchanges = self.resolver.mail_hosts(domain, &config.hostname).await.found?;
                let hosts = self.resolver.addresses(&exchanges, config.delivery.port).await?;
                (domain.to_string(), hosts)
            }
        };
        Ok(Hop { name, hosts, ehlo: config.hostname.as_str().into(), tls: config.delivery.tls.level })
    }

    /// Concludes a job with its outcome.
    async fn conclude(&self, job: Job, outcome: Outcome) {
        let work = job.info.work;
        let report = self.bounces.report(&job.header, &job.info, &job.recipients, &job.body, &outcome).await;
        let follow_ups: Vec<Publication> = report.into_iter().collect();
        let reports = follow_ups.len();
        let conclusion = Conclusion {
            at: outcome.at,
            ends: outcome.ends(),
            rest: outcome.rest,
            state: encode(&outcome.state()),
            record: self.record(&job.info, &outcome),
            follow_ups,
        };
        let concluded = match job.right {
            Right::Lease(lease) => lease.conclude(conclusion),
            Right::Committing(committing) => committing.conclude(conclusion),
            Right::None => return,
        };
        match concluded {
            Ok(Concluded::Applied) => self.count(&outcome, reports),
            Ok(Concluded::Late | Concluded::Ignored) => tracing::info!(%work, "its outcome came too late"),
            Err(QueueError::Closed) => {
                tracing::warn!(%work, "the queue closed before its outcome was written");
            }
            Err(error) => tracing::error!(%work, %error, "its outcome cannot be written"),
        }
    }

    /// What the message log is to hold of an outcome.
    fn record(&self, info: &WorkInfo, outcome: &Outcome) -> bytes::Bytes {
        let replies: Vec<String> =
            outcome.recipients.iter().map(|recipient| recipient.reply.to_string()).collect();
        let recipients = outcome.recipients.iter().zip(&replies).map(|(recipient, reply)| RecipientWords {
            number: recipient.number,
            became: recipient.became,
            reason: &recipient.reason,
            reply,
        });
        let attempted = outcome.attempts > info.attempts;
        encode(&RecordWords {
            node: &self.config.now().node,
            host: &outcome.remote.host,
            address: outcome.remote.address,
            attempt: outcome.attempts,
            repeated: if attempted && info.reason == Reason::PossiblyDone {
                Repeated::Possibly
            } else {
                Repeated::No
            },
            recipients: recipients.collect(),
        })
    }

    fn count(&self, outcome: &Outcome, reports: usize) {
        for recipient in &outcome.recipients {
            let counter = match recipient.became {
                Became::Delivered => &self.counters.delivered,
                Became::Deferred { .. } => &self.counters.deferred,
                Became::Failed => &self.counters.bounced,
                Became::Expired => &self.counters.expired,
            };
            counter.add(1);
        }
        self.counters.accepted.add(reports as u64);
        self.counters.messages.add(reports as u64);
    }
}

impl Job {
    fn new(leased: Leased) -> Result<Self, (WorkId, WordsError)> {
        let Leased { lease, info, words, body } = leased;
        let read = || Ok((Header::read(&words.header)?, decode::<Detail>(&words.detail)?));
        match read() {
            Ok((header, detail)) => {
                Ok(Self { info, header, recipients: detail.recipients, body, right: Right::Lease(lease) })
            }
            Err(error) => {
                let work = info.work;
                hold(lease, &info);
                Err((work, error))
            }
        }
    }

    fn item(&self) -> Item {
        let numbered = (0u8..).zip(&self.recipients);
        let remaining = numbered.filter(|(number, _)| self.info.remaining.contains(*number));
        Item {
            work: self.info.work,
            sender: self.header.sender.clone(),
            recipients: remaining.map(|(number, address)| (number, address.clone())).collect(),
            size: self.header.size,
            dots: self.header.dots,
            needs: self.header.needs,
        }
    }
}

/// A work that this version cannot read waits until somebody looks at it.
fn hold(lease: Lease, info: &WorkInfo) {
    let conclusion = Conclusion {
        at: info.since,
        ends: Vec::new(),
        rest: queue::Rest::Hold { reason: Reason::Damaged },
        state: bytes::Bytes::new(),
        record: bytes::Bytes::new(),
        follow_ups: Vec::new(),
    };
    if let Err(error) = lease.conclude(conclusion) {
        tracing::error!(work = %info.work, %error, "it cannot be held back");
    }
}

/// The works' home, when the attempt runs on the same node.
#[derive(Debug)]
struct Here<'a> {
    delivery: &'a Delivery,
    config: &'a Config,
    jobs: Vec<Job>,
}

impl Home for Here<'_> {
    fn body(&self, item: usize) -> BodySource {
        self.jobs[item].body.clone()
    }

    async fn commit(&mut self, item: usize) -> Result<Recipients, LeaseOver> {
        let job = &mut self.jobs[item];
        match std::mem::replace(&mut job.right, Right::None) {
            Right::Lease(lease) => {
                let (committing, remaining) = lease.commit().await?;
                job.right = Right::Committing(committing);
                Ok(remaining)
            }
            Right::Committing(_) | Right::None => Err(LeaseOver),
        }
    }

    async fn tell(&mut self, item: usize, tried: Tried) {
        let job = &mut self.jobs[item];
        let right = std::mem::replace(&mut job.right, Right::None);
        let told = Job {
            info: job.info.clone(),
            header: job.header.clone(),
            recipients: std::mem::take(&mut job.recipients),
            body: job.body.clone(),
            right,
        };
        let retry = &self.config.delivery.retry;
        let outcome = outcome::of_attempt(&told.info, tried, retry, fastrand::f64());
        self.delivery.conclude(told, outcome).await;
    }
}
