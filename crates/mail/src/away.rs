//! Attempts of this queue's works on other nodes: given, answered, heard; and taken over from those that come back.

use std::sync::Arc;

use cluster::manager::{Errand, Grant, Granted, Trade, Word};
use queue::{Kind, Resumed};

use crate::{
    attempt::{Finished, Home as _},
    burst::{Burst, Tried},
    delivery::{AtHome, Delivery, Job, Said},
    dispatcher,
    envelope::{WordsError, decode, encode},
    refusals::Refusals,
    site::Keeps,
};

/// What came of an attempt of which nothing is known.
const NOTHING: Finished = Finished { opened: 0, keeps: Keeps::Nothing };

impl Delivery {
    /// Has a burst attempted on another node.
    pub(crate) async fn attempt_there(
        &self,
        place: &cluster::Place,
        burst: &Burst,
        home: &mut AtHome<'_>,
    ) -> Finished {
        let Some(cluster) = &self.cluster else { return NOTHING };
        let works = home.jobs.iter().flatten().map(|job| Granted {
            work: job.info.work,
            epoch: job.info.lease.unwrap_or_default(),
            body: job.body.clone(),
        });
        let grant = Grant { kind: Kind::Mail, burst: encode(burst), works: works.collect() };
        // Without a link to it the leases go back.
        let Some(mut errand) = cluster.give(place, grant).await else { return NOTHING };
        self.serve(&mut errand, home).await
    }

    /// Is the works' home until the other node is through with them, or is gone.
    async fn serve(&self, errand: &mut Errand, home: &mut AtHome<'_>) -> Finished {
        while let Some(word) = errand.next().await {
            match word {
                Word::Commit(item) => errand.permit(item, home.commit(item).await),
                Word::Told(item, words) => {
                    // It may have got another name since it was given this.
                    home.node = errand.node();
                    // Of this one: what was not taken of another does not hold it up.
                    home.said = Said::All;
                    match home.read(item, &words) {
                        // Its clock is not ours.
                        Ok(tried) => home.tell(item, Tried { at: self.clock.now(), ..tried }).await,
                        Err(error) => {
                            tracing::error!(node = %home.node, %error, "what a node says became of a work cannot be read");
                            home.unheard(item);
                        }
                    }
                    if home.said == Said::All {
                        errand.heard(item);
                    }
                }
                Word::Lost(item) => home.jobs[item] = None,
                Word::Ended(words) => return decode(&words).unwrap_or(NOTHING),
            }
        }
        NOTHING
    }

    async fn adopted(&self, mut errand: Errand, works: Vec<(usize, Resumed)>) {
        let most = works.iter().map(|(item, _)| *item).max().unwrap_or(0);
        let mut jobs: Vec<Option<Job>> = (0..=most).map(|_| None).collect();
        for (item, resumed) in works {
            match Job::resumed(resumed) {
                Ok(job) => jobs[item] = Some(job),
                Err((work, error)) => tracing::error!(%work, %error, "its words cannot be read"),
            }
        }
        let Some(lane) = jobs.iter().flatten().next().map(|job| job.info.lane.clone()) else { return };
        let rule = self.config.now().delivery.rule(&lane, None);
        let node = errand.node();
        let mut home = AtHome::new(self, &rule, node, jobs);
        self.serve(&mut errand, &mut home).await;
    }
}

impl AtHome<'_> {
    /// What a node says became of a work, if that can have become of it.
    fn read(&self, item: usize, words: &[u8]) -> Result<Tried, WordsError> {
        let tried: Tried = decode(words)?;
        if self.jobs[item].as_ref().is_some_and(|job| !tried.can_be_of(job.recipients.len())) {
            return Err(WordsError::of("they are of other recipients, or of a host with too long a name"));
        }
        Ok(tried)
    }
}

/// What the cluster asks of mail.
#[derive(Debug)]
pub(crate) struct Adopts {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) refusals: Refusals,
    pub(crate) dispatcher: dispatcher::Handle,
}

impl Trade for Adopts {
    fn adopt(&self, errand: Errand, works: Vec<(usize, Resumed)>) {
        let delivery = self.delivery.clone();
        let counts = works.first().map(|(_, Resumed { info, .. })| {
            self.dispatcher.adopted(info.lane.clone(), info.account.clone())
        });
        tokio::spawn(async move {
            delivery.adopted(errand, works).await;
            drop(counts);
        });
    }

    fn brought(&self, recipients: u64) {
        let counters = &self.delivery.counters;
        counters.accepted.add(recipients);
        counters.messages.add(1);
    }

    fn longest(&self) -> u64 {
        self.delivery.config.now().limits.session.message.0
    }

    fn refused(&self, node: &str, refusal: cluster::wire::Refusal) {
        self.refusals.note_of(node, refusal, self.delivery.clock.now());
    }
}
