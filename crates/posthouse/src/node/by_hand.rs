//! What operators do and ask over the control socket: works by selection, why one waits, pauses, suppressed addresses.

use std::{sync::Arc, time::Duration};

use base::{MessageId, WorkId};
use cluster::manager::Silence;
use mail::{Action, Selection, Tally, Waits};
use parking_lot::Mutex;
use queue::{Boot, Reason, Status};
use store::settings::{NewPause, NewSuppression, PauseId, Settings};
use tokio::sync::mpsc;

use super::View;
use crate::api::{
    ApiError, Earnest, ErrorKind, PauseEntry, PauseRequest, Selector, SuppressAnswer, SuppressRequest,
    SuppressedPage, SuppressedQuery, UnsuppressAnswer, UnsuppressRequest, WorkAction, WorkWhy, WorksReport,
    WorksRequest,
};

/// A reader hears something at least this often.
const BEAT: Duration = Duration::from_secs(5);
/// Lines that wait for their reader.
const WAITING: usize = 16;
/// Suppressed addresses that a list shows, unless more are asked for.
const SHOWN: u32 = 1000;

impl View {
    /// Counts works or does something to them, and tells how far it has come. It breaks off where nobody listens any more.
    pub(super) fn act_on_works(
        &self,
        request: WorksRequest,
    ) -> Result<mpsc::Receiver<WorksReport>, ApiError> {
        let selection = self.selection(request.selector)?;
        let action = action(request.action);
        let gateway = self.gateway.clone();
        let (lines, receiver) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let latest = Mutex::new(Tally::default());
            // A reader who is slow misses a line that the next one says better.
            let tell = || drop(lines.try_send(report(*latest.lock())));
            let acted = async {
                match request.earnest {
                    Earnest::Count => gateway.count(&selection, action).await,
                    Earnest::Act => {
                        let told = |tally| {
                            *latest.lock() = tally;
                            tell();
                        };
                        gateway.act(&selection, action, told).await
                    }
                }
            };
            tokio::pin!(acted);
            let mut beat = tokio::time::interval(BEAT);
            let outcome = loop {
                tokio::select! {
                    outcome = &mut acted => break outcome,
                    () = lines.closed() => return,
                    // Where nothing is found for long, the reader still hears that it is looked for.
                    _ = beat.tick() => tell(),
                }
            };
            let last = match outcome {
                Ok(tally) => WorksReport { finished: true, ..report(tally) },
                Err(error) => WorksReport {
                    finished: true,
                    error: Some(ApiError::new(ErrorKind::Failed, error.to_string())),
                    ..WorksReport::default()
                },
            };
            // He may just have gone.
            let _ = lines.send(last).await;
        });
        Ok(receiver)
    }

    fn selection(&self, selector: Selector) -> Result<Selection, ApiError> {
        let invalid = |error: String| ApiError::new(ErrorKind::Invalid, error);
        if !selector.all && selector == Selector::default() {
            return Err(invalid("nothing says which works are meant".into()).hint("say it, or --all"));
        }
        let mut selection = Selection {
            domain: selector.domain,
            sender: selector.sender,
            account: selector.account,
            recipients: selector.recipients.into_iter().collect(),
            before: selector.older_than.map(|age| self.clock.now() - age.0),
            attempts_over: selector.attempts_over,
            reason: selector.reason.as_deref().map(reason).transpose().map_err(invalid)?,
            status: selector.held.then_some(Status::Held),
            ..Selection::default()
        };
        for id in selector.ids {
            match id.parse::<WorkId>() {
                Ok(work) => selection.works.push(work),
                Err(_) => {
                    let message = id.parse::<MessageId>().map_err(|error| invalid(error.to_string()))?;
                    selection.messages.push(message);
                }
            }
        }
        Ok(selection)
    }

    /// Why a work, or each work of a message, waits.
    pub(super) async fn why_it_waits(&self, id: &str) -> Result<Vec<WorkWhy>, ApiError> {
        let works = match id.parse::<WorkId>() {
            Ok(work) => vec![work],
            Err(_) => {
                let message = id
                    .parse()
                    .map_err(|error: base::IdError| ApiError::new(ErrorKind::Invalid, error.to_string()))?;
                self.queue.works_of(message)
            }
        };
        let mut found = Vec::with_capacity(works.len());
        for work in works {
            let waits = self.gateway.why(work).await;
            let waits = waits.map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string()))?;
            found.extend(waits.map(|(waiting, waits)| self.describe_wait(&waiting, waits)));
        }
        if found.is_empty() {
            return Err(ApiError::new(ErrorKind::NotFound, format!("nothing of {id} waits"))
                .hint("`posthouse mail show ID` tells what became of a message"));
        }
        Ok(found)
    }

    /// A work and what it waits for, for people and programs.
    fn describe_wait(&self, waiting: &mail::Waiting, waits: Waits) -> WorkWhy {
        let last = waiting.state.waiting.first().map(|(_, trouble)| trouble.reply.to_string());
        let mut why = WorkWhy {
            id: waiting.info.work.to_string(),
            domain: waiting.info.lane.to_string(),
            recipients: waiting.recipients.iter().map(|to| to.as_str().to_owned()).collect(),
            reason: String::new(),
            text: String::new(),
            until: None,
            site: None,
            throttle: None,
            pause: None,
            node: None,
            silent_seconds: None,
            last_reply: last,
        };
        let by = if let Waits::Attempted { by } = &waits { self.by(&mut why, *by) } else { String::new() };
        let (reason, text) = told(&mut why, waiting, waits);
        why.reason = reason.into();
        why.text = text + &by;
        why
    }

    /// By whom a work is being attempted, and what becomes of it if nothing is heard of that node.
    fn by(&self, why: &mut WorkWhy, boot: Option<Boot>) -> String {
        let Some(manager) = self.cluster() else { return String::new() };
        let Some(boot) = boot else {
            why.node = Some(self.gateway.config().node.clone());
            return " by the manager itself".into();
        };
        why.node = manager.name_of(boot);
        let name = why.node.as_deref().unwrap_or("a node that was removed");
        let Some(Silence { lasts, gone_in }) = manager.silence(boot) else {
            return format!(" by {name}");
        };
        why.silent_seconds = Some(lasts.as_secs());
        why.until = gone_in.map(|time| (self.clock.now() + time).into());
        let then = match gone_in {
            // Which of the two is known to the queue only.
            Some(_) => {
                "unless that is heard it is taken back, or waits as possibly-done if it has passed its final dot"
            }
            None => "takeover is frozen: `posthouse nodes list`",
        };
        format!(" by {name}, silent for {} s; {then}", lasts.as_secs())
    }

    pub(super) fn all_pauses(&self) -> Vec<PauseEntry> {
        self.gateway.pauses().iter().cloned().map(PauseEntry::from).collect()
    }

    pub(super) async fn begin_pause(&self, request: PauseRequest) -> Result<PauseEntry, ApiError> {
        let PauseRequest { about, until, why, by } = request;
        let new = NewPause { about, until: until.map(|until| until.0), why, by };
        let gateway = self.gateway.clone();
        blocking(move || gateway.pause(&new)).await.map(PauseEntry::from)
    }

    pub(super) async fn end_pause(&self, id: i64) -> Result<PauseEntry, ApiError> {
        match self.gateway.resume(PauseId(id)).await {
            Ok(Some(pause)) => Ok(pause.into()),
            Ok(None) => Err(ApiError::new(ErrorKind::NotFound, format!("there is no pause {id}"))
                .hint("`posthouse mail pauses` lists them")),
            Err(error) => Err(ApiError::new(ErrorKind::Failed, error.to_string())),
        }
    }

    pub(super) async fn suppressed_page(&self, query: SuppressedQuery) -> Result<SuppressedPage, ApiError> {
        let (settings, now) = (self.gateway.settings().clone(), self.clock.now());
        blocking(move || {
            let total = settings.suppression_count();
            if let Some(address) = &query.address {
                let found = settings.suppressed([address.as_str()], now)?;
                let addresses = found.into_iter().map(|(_, suppression)| suppression.into()).collect();
                return Ok(SuppressedPage { total, addresses, next: None });
            }
            let limit = usize::try_from(query.limit.unwrap_or(SHOWN)).unwrap_or(usize::MAX);
            let page = settings.suppressions(query.after.as_deref().unwrap_or_default(), limit, now)?;
            let addresses = page.page.into_iter().map(Into::into).collect();
            Ok(SuppressedPage { total, addresses, next: page.next })
        })
        .await
    }

    pub(super) async fn suppress_addresses(
        &self,
        request: SuppressRequest,
    ) -> Result<SuppressAnswer, ApiError> {
        let until = request.until.map(|until| until.0);
        let mut new = Vec::with_capacity(request.addresses.len());
        for address in request.addresses {
            let parsed: smtp::Address = address.parse().map_err(|error: smtp::AddressError| {
                ApiError::new(ErrorKind::Invalid, format!("\"{address}\" is not an address: {error}"))
            })?;
            new.push(NewSuppression { address: parsed.as_str().to_owned(), until, why: request.why.clone() });
        }
        let now = self.clock.now();
        self.with_settings(move |settings| settings.suppress(&new, now))
            .await
            .map(|done| SuppressAnswer { new: done.new, changed: done.changed })
    }

    pub(super) async fn unsuppress_addresses(
        &self,
        request: UnsuppressRequest,
    ) -> Result<UnsuppressAnswer, ApiError> {
        let ended = self.with_settings(move |settings| settings.unsuppress(&request.addresses)).await?;
        Ok(UnsuppressAnswer { ended })
    }

    async fn with_settings<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Settings) -> store::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let settings: Arc<Settings> = self.gateway.settings().clone();
        blocking(move || ask(&settings)).await
    }
}

/// Asks the settings, on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> store::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error @ store::Error::TooMuch(_))) => {
            Err(ApiError::new(ErrorKind::Refused, error.to_string()))
        }
        Ok(Err(error)) => Err(ApiError::new(ErrorKind::Failed, error.to_string())),
        Err(_) => Err(ApiError::new(ErrorKind::Failed, "the node is stopping")),
    }
}

fn report(tally: Tally) -> WorksReport {
    WorksReport {
        works: tally.works as u64,
        recipients: tally.recipients as u64,
        done: tally.done as u64,
        ..WorksReport::default()
    }
}

fn action(action: WorkAction) -> Action {
    match action {
        WorkAction::Hold => Action::Hold,
        WorkAction::Release => Action::Release,
        WorkAction::Cancel => Action::Cancel,
        WorkAction::Retry => Action::Retry,
        WorkAction::Reschedule { at } => Action::Reschedule(at.0),
        WorkAction::Prioritise { priority } => Action::Prioritise(priority),
    }
}

/// The reason that a word of lists stands for.
pub(super) fn reason(word: &str) -> Result<Reason, String> {
    let mut all = REASONS.into_iter();
    all.find(|reason| reason.word() == word).ok_or_else(|| {
        let words = REASONS.map(Reason::word);
        let meant =
            base::nearest(word, words).map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        format!("\"{word}\" is not one of {}{meant}", words.join(", "))
    })
}

const REASONS: [Reason; 11] = [
    Reason::New,
    Reason::Scheduled,
    Reason::Deferred,
    Reason::GivenBack,
    Reason::HolderGone,
    Reason::PossiblyDone,
    Reason::ByHand,
    Reason::Damaged,
    Reason::Paused,
    Reason::Unreadable,
    Reason::Exhausted,
];

/// What a work waits for, in a word and in a sentence; what else there is to say goes into `why`.
fn told(why: &mut WorkWhy, waiting: &mail::Waiting, waits: Waits) -> (&'static str, String) {
    match waits {
        Waits::Attempted { .. } => ("attempted", "it is being attempted now".into()),
        Waits::Held => ("held", "an operator holds it back until it is released".into()),
        Waits::SetAside => ("set-aside", "its stored form is damaged".into()),
        Waits::Paused(pause) => {
            (why.pause, why.until) = (Some(pause.id.0), pause.until.map(Into::into));
            let because = if pause.why.is_empty() { String::new() } else { format!(": {}", pause.why) };
            ("paused", format!("{} has paused {}{because}", pause.by, pause.about))
        }
        Waits::Scheduled { until } => {
            why.until = Some(until.into());
            ("scheduled", "it is to go at a later time".into())
        }
        Waits::Retry { until } => {
            why.until = Some(until.into());
            let reply = why.last_reply.as_deref().unwrap_or("nobody knows why");
            ("retry", format!("attempt {} did not end it: {reply}", waiting.info.attempts))
        }
        Waits::PossiblyDone { until, by } => {
            let text = match &by {
                Some(node) => format!("it may have been delivered by {node}, which was lost with it"),
                None => "an attempt that nobody heard of again may have delivered it".into(),
            };
            why.node = by;
            if until >= waiting.info.expires {
                let then = ": it waits for `posthouse mail retry`, or until it is too old";
                return ("possibly-done", text + then);
            }
            why.until = Some(until.into());
            ("possibly-done", text)
        }
        Waits::Unreadable { until } => {
            why.until = Some(until.into());
            ("unreadable", "the disk does not give it; it is read again: look at the log and the disk".into())
        }
        Waits::Exhausted { until } => {
            why.until = Some(until.into());
            ("exhausted", "this machine had no descriptor or no memory left for it".into())
        }
        Waits::NoRoom => {
            ("no-room", "the disk is full, and too much has ended that could not be written down yet".into())
        }
        Waits::NoNode => {
            ("no-node", "every node has as much as it takes, or none is there: `posthouse nodes list`".into())
        }
        Waits::Lookup => ("lookup", format!("the mail hosts of {} are being looked up", why.domain)),
        Waits::Rests { site, failures, trouble, until } => {
            (why.until, why.site) = (Some(until.into()), Some(site.clone()));
            ("rests", format!("{site} has failed {failures} times without an answer: {trouble}"))
        }
        Waits::Connections { site, open, most } => {
            why.site = Some(site.clone());
            ("connections", format!("{open} of the {most} connections that {site} may have are open"))
        }
        Waits::Share { site } => {
            why.site = Some(site.clone());
            ("share", format!("{site} has a quarter of what each node takes, and mail for others waits"))
        }
        Waits::Throttled { site, throttle, per_minute, until } => {
            (why.until, why.site) = (Some(until.into()), Some(site.clone()));
            why.throttle = Some(throttle.into());
            ("throttled", format!("{throttle} of {site} is used up: {per_minute}"))
        }
        Waits::Slots { running } => {
            ("slots", format!("{running} deliveries are under way, and no slot is left for this one"))
        }
        Waits::Turn => ("turn", "it waits for its turn and nothing else".into()),
    }
}
