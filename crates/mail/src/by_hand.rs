//! What operators do to works that wait: which they mean, how many that are, and what becomes of them.
//!
//! Works are looked at by the page, so that a million of them neither holds the queue up nor needs memory.

use std::{collections::HashSet, sync::Arc, time::Duration};

use base::{AddressPattern, DomainPattern, MessageId, Timestamp, WorkId};
use queue::{Change, Cursor, Kind, Queue, QueueError, Reason, Seen, Status, Ticket, WorkInfo};
use store::settings::{About, NewPause, Pause, PauseId};

use crate::{
    Depths, Gateway,
    envelope::{Detail, Header, decode},
};

/// Which works are meant: those for which all holds that is said. An empty selection means all works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Works of these messages.
    pub messages: Vec<MessageId>,
    /// These works.
    pub works: Vec<WorkId>,
    /// To domains like this.
    pub domain: Option<DomainPattern>,
    /// From senders like this.
    pub sender: Option<AddressPattern>,
    /// Brought by this account.
    pub account: Option<String>,
    /// With a recipient like one of these that has not ended; any, if none is named.
    pub recipients: Recipients,
    /// Taken in before.
    pub before: Option<Timestamp>,
    /// Tried more often.
    pub attempts_over: Option<u32>,
    /// Where they are for this reason.
    pub reason: Option<Reason>,
    /// Whether they may go.
    pub status: Option<Status>,
}

/// Addresses that are meant, however many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// Those that are named, in lower case.
    named: HashSet<String>,
    patterns: Vec<AddressPattern>,
}

impl FromIterator<AddressPattern> for Recipients {
    fn from_iter<I: IntoIterator<Item = AddressPattern>>(all: I) -> Self {
        let mut recipients = Self::default();
        for pattern in all {
            let text = pattern.to_string();
            if text.contains('*') {
                recipients.patterns.push(pattern);
            } else {
                recipients.named.insert(text.to_lowercase());
            }
        }
        recipients
    }
}

impl Recipients {
    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.patterns.is_empty()
    }

    fn matches(&self, address: &str) -> bool {
        self.named.contains(&address.to_lowercase())
            || self.patterns.iter().any(|pattern| pattern.matches(address))
    }
}

/// What is done to works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They wait until they are released.
    Hold,
    /// They wait for their time again.
    Release,
    /// They end.
    Cancel,
    /// They are tried now, also where their hosts did not answer lately.
    Retry,
    /// They are tried at this time.
    Reschedule(Timestamp),
    /// They go before or behind others, from -9 to 9.
    Prioritise(i8),
}

/// How many works are meant, or were dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Works that are meant.
    pub works: usize,
    /// Their recipients that have not ended.
    pub recipients: usize,
    /// Works for which it was done.
    pub done: usize,
}

/// Works looked at in one go: so few that what is made for them comes from the allocator's small pages, which are used again.
const PAGE: usize = 256;
/// With more than this to be told to the message log, the next page waits for it: so often, each time so long, and then not any more.
const AHEAD: usize = 4 * PAGE;
const LOG_LOOK: Duration = Duration::from_millis(2);
const LOG_LOOKS: u32 = 50;
/// Most domains whose hosts are tried at once after a retry by hand.
const WOKEN: usize = 10_000;

/// A work that is meant.
struct Meant {
    work: WorkId,
    recipients: u32,
    domain: Option<Arc<str>>,
}

impl Selection {
    /// Whether a work is meant, as far as that can be said without reading its words.
    fn holds(&self, seen: &Seen<'_>, began: Timestamp) -> bool {
        let is_named = self.messages.is_empty() && self.works.is_empty()
            || self.messages.contains(&seen.work.message)
            || self.works.contains(&seen.work);
        is_named
            // What came meanwhile is not meant by somebody who could not know of it.
            && seen.work.message.time() <= began
            && self.domain.as_ref().is_none_or(|pattern| pattern.matches(seen.lane))
            && self.account.as_ref().is_none_or(|account| **account == **seen.account)
            && self.before.is_none_or(|before| seen.work.message.time() < before)
            && self.attempts_over.is_none_or(|attempts| seen.attempts > attempts)
            && self.reason.is_none_or(|reason| seen.reason == reason)
            && self.status.is_none_or(|status| seen.status == status)
    }

    /// Whether words have to be read to know whether a work is meant.
    fn needs_words(&self) -> bool {
        self.sender.is_some() || !self.recipients.is_empty()
    }

    /// The works of the messages and works that it names, if it names any.
    fn named(&self, queue: &Queue) -> Option<Vec<WorkId>> {
        if self.messages.is_empty() && self.works.is_empty() {
            return None;
        }
        let mut works: Vec<WorkId> =
            self.messages.iter().flat_map(|message| queue.works_of(*message)).collect();
        works.extend(&self.works);
        works.sort_unstable();
        works.dedup();
        Some(works)
    }

    /// Whether the words of a work are those that are meant. Words that cannot be read are those of nobody.
    async fn words_hold(&self, queue: &Queue, work: WorkId) -> Result<bool, QueueError> {
        let Some(words) = queue.words(work).await? else { return Ok(false) };
        if let Some(sender) = &self.sender {
            let Ok(header) = Header::read(&words.header) else { return Ok(false) };
            if !sender.matches(header.sender.as_str()) {
                return Ok(false);
            }
        }
        if self.recipients.is_empty() {
            return Ok(true);
        }
        let Some(info) = queue.info(work) else { return Ok(false) };
        let Ok(detail) = decode::<Detail>(&words.detail) else { return Ok(false) };
        let mut waiting =
            (0u8..).zip(&detail.recipients).filter(|(number, _)| info.remaining.contains(*number));
        Ok(waiting.any(|(_, address)| self.recipients.matches(address.as_str())))
    }
}

impl Action {
    /// Whether it can be done to a work that stands so.
    fn fits(self, status: Status) -> bool {
        match self {
            Self::Cancel | Self::Prioritise(_) => true,
            Self::Hold | Self::Retry | Self::Reschedule(_) => status == Status::Waiting,
            Self::Release => status != Status::Waiting,
        }
    }

    fn change(self, now: Timestamp) -> Option<Change> {
        Some(match self {
            Self::Hold => Change::Hold,
            Self::Release => Change::Release,
            Self::Retry => Change::Reschedule(now),
            Self::Reschedule(at) => Change::Reschedule(at),
            Self::Prioritise(priority) => Change::Prioritise(priority.clamp(-9, 9).abs_diff(-9)),
            Self::Cancel => return None,
        })
    }
}

impl Gateway {
    /// How many works a selection means of those that an action can be done to.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn count(&self, selection: &Selection, action: Action) -> Result<Tally, QueueError> {
        let mut tally = Tally::default();
        let mut pages = Pages::new(selection, action, self.intake().clock.now());
        while let Some(page) = pages.next(self.queue()).await? {
            tally.add(&page);
        }
        Ok(tally)
    }

    /// Does something to all works that a selection means; `progress` hears how many were looked at and dealt with so far.
    ///
    /// # Errors
    /// If the disk is full or has failed, or the queue is closed; what was done before stays done.
    pub async fn act(
        &self,
        selection: &Selection,
        action: Action,
        mut progress: impl FnMut(Tally) + Send,
    ) -> Result<Tally, QueueError> {
        let mut tally = Tally::default();
        let mut woken = HashSet::new();
        let mut log = Log::Follows;
        let mut pages = Pages::new(selection, action, self.intake().clock.now());
        while let Some(page) = pages.next(self.queue()).await? {
            tally.add(&page);
            let works: Vec<WorkId> = page.iter().map(|meant| meant.work).collect();
            tally.done += match action.change(self.intake().clock.now()) {
                Some(change) => self.queue().change(works, change).await?,
                None => self.queue().cancel(works, self.intake().clock.now()).await?,
            };
            let room = WOKEN.saturating_sub(woken.len());
            if log == Log::Follows {
                log = self.let_the_log_follow().await;
            }
            woken.extend(page.into_iter().filter_map(|meant| meant.domain).take(room));
            progress(tally);
        }
        for domain in woken {
            self.dispatcher().wake(domain);
        }
        Ok(tally)
    }
}

/// Whether the message log is told as fast as something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    Follows,
    /// It is stuck or slow: nobody waits for it.
    Lags,
}

impl Gateway {
    /// Waits a little until the message log has been told most of what was done: what it has not taken piles up in memory.
    async fn let_the_log_follow(&self) -> Log {
        for _ in 0..LOG_LOOKS {
            if self.queue().stats().waiting_tales <= AHEAD {
                return Log::Follows;
            }
            tokio::time::sleep(LOG_LOOK).await;
        }
        Log::Lags
    }
}

impl Tally {
    fn add(&mut self, page: &[Meant]) {
        self.works += page.len();
        self.recipients += page.iter().map(|meant| meant.recipients as usize).sum::<usize>();
    }
}

/// The works that are meant, by the page.
struct Pages<'s> {
    selection: &'s Selection,
    action: Action,
    began: Timestamp,
    at: Option<Cursor>,
}

impl<'s> Pages<'s> {
    fn new(selection: &'s Selection, action: Action, began: Timestamp) -> Self {
        Self { selection, action, began, at: Some(Cursor::default()) }
    }

    /// The next page with works that are meant; nothing at the end.
    async fn next(&mut self, queue: &Queue) -> Result<Option<Vec<Meant>>, QueueError> {
        while let Some(at) = self.at.take() {
            let mut page = Vec::new();
            match self.selection.named(queue) {
                Some(named) => {
                    let infos = named.into_iter().filter_map(|work| queue.info(work));
                    page.extend(infos.filter_map(|info| self.meant(&of_info(&info))));
                }
                None => self.at = queue.walk(Kind::Mail, at, PAGE, &mut |seen| page.extend(self.meant(seen))),
            }
            if self.selection.needs_words() {
                let mut read = Vec::new();
                for meant in page {
                    if self.selection.words_hold(queue, meant.work).await? {
                        read.push(meant);
                    }
                }
                page = read;
            }
            if !page.is_empty() {
                return Ok(Some(page));
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }

    fn meant(&self, seen: &Seen<'_>) -> Option<Meant> {
        let is_meant = self.action.fits(seen.status) && self.selection.holds(seen, self.began);
        is_meant.then(|| Meant {
            work: seen.work,
            recipients: seen.remaining.count(),
            domain: (self.action == Action::Retry).then(|| seen.lane.clone()),
        })
    }
}

/// A work that was asked for by name, as a walk would show it.
fn of_info(info: &WorkInfo) -> Seen<'_> {
    Seen {
        work: info.work,
        ticket: Ticket(0),
        first_due: info.first_due,
        size: 0,
        lane: &info.lane,
        account: &info.account,
        priority: info.priority,
        not_before: info.not_before,
        expires: info.expires,
        attempts: info.attempts,
        remaining: info.remaining,
        status: info.status,
        reason: info.reason,
        lease: info.lease,
    }
}

impl Gateway {
    /// Lets mail wait from now on; what is under way goes on.
    ///
    /// # Errors
    /// The settings cannot be written, or there are too many pauses.
    pub fn pause(&self, pause: &NewPause) -> store::Result<Pause> {
        let pause = self.settings().pause(pause, self.intake().clock.now())?;
        self.read_pauses()?;
        Ok(pause)
    }

    /// Ends a pause: what it held back goes as soon as it may. Returns the pause; nothing if there was none of this number.
    ///
    /// # Errors
    /// The settings cannot be written; or the queue, and then what was put off waits for its own time.
    pub async fn resume(&self, id: PauseId) -> Result<Option<Pause>, ResumeError> {
        let Some(pause) = self.settings().resume(id)? else { return Ok(None) };
        self.read_pauses()?;
        if let About::Sender(sender) = &pause.about {
            // These were put off one by one, as their senders were read.
            let selection = Selection {
                sender: Some(sender.clone()),
                reason: Some(Reason::Paused),
                ..Selection::default()
            };
            self.act(&selection, Action::Retry, |_| {}).await?;
        }
        Ok(Some(pause))
    }

    /// What is paused.
    #[must_use]
    pub fn pauses(&self) -> Arc<[Pause]> {
        self.intake().pauses()
    }

    fn read_pauses(&self) -> store::Result<()> {
        let pauses: Arc<[Pause]> = self.settings().pauses(self.intake().clock.now())?.into();
        self.intake().pauses.lock().clone_from(&pauses);
        self.dispatcher().set_pauses(pauses);
        Ok(())
    }

    /// How much waited for what, less than two seconds ago.
    #[must_use]
    pub fn depths(&self) -> Depths {
        self.dispatcher().depths()
    }
}

/// A pause could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The settings cannot be read or written.
    #[error(transparent)]
    Settings(#[from] store::Error),
    /// What was put off cannot be released.
    #[error(transparent)]
    Queue(#[from] QueueError),
}
