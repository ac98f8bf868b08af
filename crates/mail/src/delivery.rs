//! What is done with works whose turn has come, at their home: leased, attempted, and concluded each as its outcome comes.

use std::sync::Arc;

use base::{Clock, RetryPlan, Timestamp, WorkId};
use queue::{
    BodySource, Claim, Concluded, Conclusion, Holder, Lease, LeaseOver, Leased, Publication, Queue,
    QueueError, Reason, Recipients, Resumed, Ticket, Words, WorkInfo,
};
use smtp::{Address, client::Stage};

use crate::{
    Config, Counters, Live,
    attempt::{Finished, Home},
    attempts::Attempts,
    bounce::{Bounces, Reported},
    burst::{Burst, Hop, Item, Tried, TriedRecipient, Trouble},
    destination::Rule,
    envelope::{Became, Detail, Header, RecipientWords, RecordWords, Repeated, State, WordsError, encode},
    outcome::{self, Outcome, Patient},
    pause,
    place::Place,
    reach::Contact,
    resolver::{NoWay, Resolver, Why},
    schedule::Slot,
    site::{Keeps, Used, Way},
};

/// What all deliveries share.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) config: Live,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) bounces: Bounces,
    pub(crate) resolver: Resolver,
    /// What attempts on this node are made with.
    pub(crate) attempts: Arc<Attempts>,
    /// The other nodes, where there are any.
    pub(crate) cluster: Option<cluster::manager::Manager>,
}

/// A work that was leased, while something is done with it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) info: WorkInfo,
    header: Header,
    pub(crate) recipients: Vec<Address>,
    state: State,
    pub(crate) body: BodySource,
    /// What we may do with the work; nothing once the lease was found to be over.
    claim: Option<Claim>,
}

impl Delivery {
    /// Delivers works that may go now, all to the same site, from one place.
    pub(crate) async fn deliver(&self, slot: &Slot, works: Vec<Ticket>, place: Place) -> Used {
        let config = self.config.now();
        let nothing = Used { contact: Contact::None, opened: 0, keeps: Keeps::Nothing };
        let jobs = self.lease(place.holder(), works).await;
        let jobs = self.set_apart(jobs).await;
        if jobs.is_empty() {
            return nothing;
        }
        let rule = &slot.key.rule;
        let hop = match self.resolve(&slot.key.way, &config, rule).await {
            Ok(hop) => hop,
            Err(no_way) => {
                Box::pin(self.conclude_without(jobs, &no_way, |_| rule.clone())).await;
                let is_ours = no_way.why == Why::Exhausted;
                let contact = if is_ours { Contact::None } else { Contact::Failed(no_way.text) };
                return Used { contact, ..nothing };
            }
        };
        let then = slot.cost.means.map_or(Keeps::Connection, |means| means.then);
        let burst = Burst { hop, items: jobs.iter().map(Job::item).collect(), then };
        let jobs = jobs.into_iter().map(Some).collect();
        let node = config.node.as_str().into();
        let mut home = AtHome::new(self, rule, node, jobs);
        let Finished { opened, keeps } = match &place {
            Place::Of(place) if place.holder() != Holder::Here => {
                self.attempt_there(place, &burst, &mut home).await
            }
            // The largest part by far, which those that go elsewhere do not need.
            Place::Here | Place::Of(_) => Box::pin(self.attempts.run(&burst, &mut home)).await,
        };
        Used { contact: home.contact, opened, keeps }
    }

    /// Concludes works whose mail goes nowhere.
    pub(crate) async fn refuse(&self, no_way: &NoWay, works: Vec<Ticket>) {
        let config = self.config.now();
        let jobs = self.lease(Holder::Here, works).await;
        let jobs = self.set_apart(jobs).await;
        self.conclude_without(jobs, no_way, |job| config.delivery.rule(&job.info.lane, None)).await;
    }

    /// Looks at works that wait: what is too old ends, and senders are told of what waits for long.
    pub(crate) async fn look(&self, works: Vec<Ticket>) {
        let config = self.config.now();
        for mut job in self.lease(Holder::Here, works).await {
            let rule = config.delivery.rule(&job.info.lane, None);
            let state = std::mem::take(&mut job.state);
            let outcome = outcome::of_waiting(&job.info, state, &rule, self.clock.now());
            if let Some(outcome) = outcome {
                self.conclude(job, outcome).await;
            }
        }
    }

    /// Leases works and reads their words; what is too old is concluded.
    async fn lease(&self, holder: Holder, works: Vec<Ticket>) -> Vec<Job> {
        let mut leased = self.queue.lease(holder, works).await;
        if let Some(cluster) = &self.cluster {
            let withdrawn = leased.extract_if(.., |leased| cluster.has_withdrawn(leased.info.work.message));
            let withdrawn: Vec<Leased> = withdrawn.collect();
            if !withdrawn.is_empty() {
                Box::pin(cluster.cancel(withdrawn.iter().map(|leased| leased.info.work).collect())).await;
            }
        }
        let now = self.clock.now();
        let (mut jobs, mut expired) = (Vec::with_capacity(leased.len()), Vec::new());
        for leased in leased {
            match Job::new(leased) {
                Ok(job) if job.info.expires <= now => expired.push(job),
                Ok(job) => jobs.push(job),
                Err((work, error)) => {
                    tracing::error!(%work, %error, "held back: its words cannot be read");
                }
            }
        }
        if !expired.is_empty() {
            Box::pin(self.conclude_expired(expired, now)).await;
        }
        jobs
    }

    async fn conclude_expired(&self, jobs: Vec<Job>, now: Timestamp) {
        for mut job in jobs {
            let outcome = outcome::of_expiry(&job.info, std::mem::take(&mut job.state), now);
            self.conclude(job, outcome).await;
        }
    }

    /// Sets apart what must not go: mail from senders that are paused, and recipients that are suppressed.
    async fn set_apart(&self, jobs: Vec<Job>) -> Vec<Job> {
        let intake = &self.bounces.intake;
        if intake.pauses().is_empty() && intake.suppresses_nobody() {
            return jobs;
        }
        Box::pin(self.sift(jobs)).await
    }

    async fn sift(&self, jobs: Vec<Job>) -> Vec<Job> {
        let (pauses, config) = (self.bounces.intake.pauses(), self.config.now());
        let now = self.clock.now();
        let mut left = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            let is_over = |pause: &&store::settings::Pause| {
                pause::is_on(pause, now) && pause::holds_sender(pause, &job.header.sender)
            };
            if let Some(pause) = pauses.iter().find(is_over) {
                let rule = config.delivery.rule(&job.info.lane, None);
                let state = std::mem::take(&mut job.state);
                let outcome = outcome::of_pause(&job.info, state, pause, &rule, now);
                self.conclude(job, outcome).await;
                continue;
            }
            match self.suppressed(&job).await {
                suppressed if suppressed.is_empty() => left.push(job),
                suppressed => {
                    let outcome = outcome::of_suppression(&job.info, &suppressed, &job.state, now);
                    self.conclude(job, outcome).await;
                }
            }
        }
        left
    }

    /// The recipients of a work that no mail is sent to, and why.
    async fn suppressed(&self, job: &Job) -> Vec<(u8, String)> {
        if self.bounces.intake.suppresses_nobody() {
            return Vec::new();
        }
        let numbers =
            || job.info.remaining.iter().filter(|number| usize::from(*number) < job.recipients.len());
        let waiting = numbers().map(|number| job.recipients[usize::from(number)].clone()).collect();
        let found = self.bounces.intake.suppressed(waiting).await;
        let numbers: Vec<u8> = numbers().collect();
        found.into_iter().filter_map(|(place, why)| Some((*numbers.get(place)?, why))).collect()
    }

    async fn conclude_without(&self, jobs: Vec<Job>, no_way: &NoWay, rule: impl Fn(&Job) -> Rule) {
        for mut job in jobs {
            let (rule, now) = (rule(&job), self.clock.now());
            let outcome = if no_way.why == Why::Exhausted {
                let state = std::mem::take(&mut job.state);
                outcome::of_exhaustion(&job.info, state, now, fastrand::f64())
            } else {
                outcome::of_no_way(&job.info, no_way, now, job.patient(&rule))
            };
            self.conclude(job, outcome).await;
        }
    }

    /// The hosts on a way, by name and address.
    async fn resolve(&self, way: &Way, config: &Config, rule: &Rule) -> Result<Hop, NoWay> {
        let hosts = match way {
            Way::Hop(hop) => vec![self.resolver.next_hop(hop).await?],
            Way::Hosts(exchanges) => self.resolver.addresses(exchanges, config.delivery.port).await?,
        };
        Ok(Hop {
            name: way.to_string(),
            hosts,
            tls: rule.tls,
            messages_per_connection: rule.messages_per_connection,
        })
    }

    /// Concludes a job with an outcome that was found on this node.
    async fn conclude(&self, job: Job, outcome: Outcome) {
        let follow_ups = self.reports(&job, &outcome).await;
        let config = self.config.now();
        // What the queue does not take is said in the log; the work waits as whoever drops its lease leaves it.
        let _ = self.conclude_by(&config.node, job, &outcome, follow_ups);
    }

    /// What senders are to be told of an outcome, which is seldom anything.
    async fn reports(&self, job: &Job, outcome: &Outcome) -> Vec<Publication> {
        if !outcome.is_to_be_reported() {
            return Vec::new();
        }
        let Job { info, header, recipients, body, .. } = job;
        // Somebody else's late word may have said of some of them that they have it.
        let left = self.queue.info(info.work).map_or(Recipients::NONE, |info| info.remaining);
        Box::pin(self.bounces.reports(Reported { header, info, recipients, body, outcome, left })).await
    }

    /// Concludes a job with an outcome that was found on the node of this name.
    fn conclude_by(&self, node: &str, job: Job, outcome: &Outcome, follow_ups: Vec<Publication>) -> Said {
        let work = job.info.work;
        let reports = follow_ups.len();
        let conclusion = Conclusion {
            at: outcome.at,
            ends: outcome.ends(),
            rest: outcome.rest,
            state: outcome.state.write(),
            record: record(node, &job.info, outcome),
            follow_ups,
        };
        let left = job.info.remaining.without(conclusion.ended());
        let concluded = match job.claim {
            Some(Claim::Lease(lease)) => lease.conclude(conclusion),
            Some(Claim::Committing(committing)) => committing.conclude(conclusion),
            Some(Claim::Over(over)) => over.conclude(conclusion),
            None => return Said::All,
        };
        let said = if concluded.is_ok() { Said::All } else { Said::NotAll };
        match concluded {
            Ok(Concluded::Applied) => {
                outcome.told().for_each(|recipient| self.counters.became(recipient.became));
                self.counters.accepted.add(reports as u64);
                self.counters.messages.add(reports as u64);
                if let Some(cluster) = self.cluster.as_ref().filter(|_| !left.is_empty()) {
                    cluster.left_of(work.message);
                }
            }
            Ok(Concluded::Late) => {
                tracing::info!(%work, "its outcome came late; whom it was delivered to has it");
                let delivered = outcome.told().filter(|recipient| recipient.became == Became::Delivered);
                delivered.for_each(|recipient| self.counters.became(recipient.became));
            }
            Ok(Concluded::Ignored) => tracing::info!(%work, "its outcome came too late"),
            Err(QueueError::Closed) => {
                tracing::warn!(%work, "the queue closed before its outcome was written");
            }
            Err(error) => tracing::error!(%work, %error, "its outcome cannot be written"),
        }
        said
    }
}

impl Job {
    fn new(leased: Leased) -> Result<Self, (WorkId, WordsError)> {
        let Leased { lease, info, words, body } = leased;
        match Self::read(info, &words, body) {
            Ok(job) => Ok(Self { claim: Some(Claim::Lease(lease)), ..job }),
            Err(unread) => {
                let (info, error) = *unread;
                hold(lease, &info);
                Err((info.work, error))
            }
        }
    }

    /// A work that another node holds still.
    pub(crate) fn resumed(resumed: Resumed) -> Result<Self, (WorkId, WordsError)> {
        let Resumed { claim, info, words, body } = resumed;
        let job = Self::read(info, &words, body).map_err(|unread| (unread.0.work, unread.1))?;
        Ok(Self { claim: Some(claim), ..job })
    }

    fn read(info: WorkInfo, words: &Words, body: BodySource) -> Result<Self, Box<(WorkInfo, WordsError)>> {
        let read = || Ok((Header::read(&words.header)?, Detail::of(&words.detail, info.remaining)?));
        match read() {
            Ok((header, detail)) => Ok(Self {
                info,
                header,
                recipients: detail.recipients,
                // What was said of it last is worth less than the mail.
                state: State::read(&words.state).unwrap_or_default(),
                body,
                claim: None,
            }),
            Err(error) => Err(Box::new((info, error))),
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

    /// How patient we are with it: its message's own plan goes before that of its destination.
    fn patient<'a>(&'a self, rule: &'a Rule) -> Patient<'a> {
        let retry: &RetryPlan = self.header.retry.as_ref().unwrap_or(&rule.retry);
        Patient {
            retry,
            delay_warning: rule.delay_warning,
            warned: self.state.warned,
            spread: fastrand::f64(),
        }
    }
}

/// What the message log is to hold of an outcome; nothing of one without an attempt or an end.
fn record(node: &str, info: &WorkInfo, outcome: &Outcome) -> bytes::Bytes {
    let told = outcome.told();
    let replies: Vec<String> = told.clone().map(|recipient| recipient.reply.to_string()).collect();
    if replies.is_empty() {
        return bytes::Bytes::new();
    }
    let recipients = told.zip(&replies).map(|(recipient, reply)| RecipientWords {
        number: recipient.number,
        became: recipient.became,
        reason: &recipient.reason,
        reply,
    });
    let attempted = outcome.attempts > info.attempts;
    encode(&RecordWords {
        node,
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

/// A work that this version cannot read waits until somebody looks at it.
fn hold(lease: Lease, info: &WorkInfo) {
    let conclusion = Conclusion {
        at: info.work.message.time(),
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

/// The works of a burst at their home, on whichever node they are attempted.
#[derive(Debug)]
pub(crate) struct AtHome<'a> {
    pub(crate) delivery: &'a Delivery,
    pub(crate) rule: &'a Rule,
    /// The name of the node that attempts them.
    pub(crate) node: Arc<str>,
    /// Those that nothing was told of yet.
    pub(crate) jobs: Vec<Option<Job>>,
    /// What the attempt has shown of the site so far.
    pub(crate) contact: Contact,
    /// Whether all that was told is said to the queue.
    pub(crate) said: Said,
}

/// Whether what was told of works is said to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    All,
    /// The queue did not take some of it.
    NotAll,
}

impl<'a> AtHome<'a> {
    pub(crate) fn new(
        delivery: &'a Delivery,
        rule: &'a Rule,
        node: Arc<str>,
        jobs: Vec<Option<Job>>,
    ) -> Self {
        Self { delivery, rule, node, jobs, contact: Contact::None, said: Said::All }
    }

    /// What became of an item cannot be known: it is tried again, but not at once.
    pub(crate) fn unheard(&mut self, item: usize) {
        let Some(mut job) = self.jobs[item].take() else { return };
        // What may have been delivered waits as such.
        if !matches!(job.claim, Some(Claim::Lease(_))) {
            return;
        }
        let state = std::mem::take(&mut job.state);
        let outcome = outcome::of_exhaustion(&job.info, state, self.delivery.clock.now(), fastrand::f64());
        self.conclude(job, &outcome, Vec::new());
    }

    fn conclude(&mut self, job: Job, outcome: &Outcome, reports: Vec<Publication>) {
        let said = self.delivery.conclude_by(&self.node, job, outcome, reports);
        if said == Said::NotAll {
            self.said = said;
        }
    }
}

impl Home for AtHome<'_> {
    fn body(&self, item: usize) -> BodySource {
        self.jobs[item].as_ref().expect("an item's body is sent before it is told of").body.clone()
    }

    async fn commit(&mut self, item: usize) -> Result<Recipients, LeaseOver> {
        let job = self.jobs[item].as_mut().ok_or(LeaseOver)?;
        match job.claim.take() {
            Some(Claim::Lease(lease)) => {
                let (committing, remaining) = lease.commit().await?;
                job.claim = Some(Claim::Committing(committing));
                Ok(remaining)
            }
            Some(Claim::Committing(_) | Claim::Over(_)) | None => Err(LeaseOver),
        }
    }

    async fn tell(&mut self, item: usize, tried: Tried) {
        if self.contact != Contact::Answered {
            self.contact = contact(&tried);
        }
        let Some(mut job) = self.jobs[item].take() else { return };
        let outcome = if tried.is_unsent() {
            outcome::of_unsent(&job.info, std::mem::take(&mut job.state), tried.at)
        } else if tried.is_exhausted() {
            let state = std::mem::take(&mut job.state);
            outcome::of_exhaustion(&job.info, state, tried.at, fastrand::f64())
        } else {
            outcome::of_attempt(&job.info, tried, job.patient(self.rule))
        };
        let reports = self.delivery.reports(&job, &outcome).await;
        self.conclude(job, &outcome, reports);
    }
}

/// What an attempt shows of its site: it answers if it got as far as the message, and was not silent there.
fn contact(tried: &Tried) -> Contact {
    let Some((_, result)) = tried.results.first() else { return Contact::None };
    let failed = |text: &str| Contact::Failed(outcome::shortened(text).to_owned());
    match result {
        _ if tried.is_exhausted() => Contact::None,
        TriedRecipient::Reply { stage: Stage::Hello, reply } => failed(&reply.to_string()),
        TriedRecipient::Broken { stage: Stage::Hello, text, .. }
        | TriedRecipient::Broken { trouble: Trouble::Timeout, text, .. } => failed(text),
        _ => Contact::Answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_another_node_says_of_a_site_no_more_is_kept_than_of_any_reply() {
        let text = "ä".repeat(1 << 20);
        let broken = TriedRecipient::Broken { stage: Stage::Hello, trouble: Trouble::Lost, text };
        let tried = Tried { results: vec![(0, broken)], ..Tried::unsent(Timestamp::default()) };
        assert_eq!(contact(&tried), Contact::Failed("ä".repeat(512)));
    }
}
