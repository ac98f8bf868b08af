//! What follows from an attempt: the one place that decides what becomes of each recipient.

use std::{borrow::Cow, time::Duration};

use base::{RetryPlan, Timestamp};
use queue::{End, Reason, Recipients, Rest, WorkInfo};
use smtp::{
    EnhancedCode, Reply,
    client::{Missing, Stage},
};
use store::settings::Pause;

use crate::{
    burst::{Tried, TriedRecipient, Trouble as Broke},
    destination::Rule,
    envelope::{Became, Remote, State, Trouble, Warned},
    policy,
    resolver::{NoWay, Why},
};

/// How long a work whose sender is paused waits at most until the pauses are looked at again.
pub(crate) const LOOKED_AT_AGAIN: Duration = Duration::from_secs(60 * 60);

/// How long a work waits for which there was no descriptor: so long, and up to twice as long.
const EXHAUSTED_FOR: Duration = Duration::from_secs(5);

/// What becomes of the recipients of a work.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How many attempts there were, with this one.
    pub(crate) attempts: u32,
    pub(crate) at: Timestamp,
    pub(crate) remote: Remote,
    /// Those of whom something is said.
    pub(crate) recipients: Vec<RecipientOutcome>,
    pub(crate) rest: Rest,
    /// What is kept with the work until it is attempted the next time.
    pub(crate) state: State,
    attempted: Attempted,
    warn: Warn,
}

/// Whether there was an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempted {
    Yes,
    No,
}

/// Whether the sender is to be told now that his message waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Warn {
    Now,
    No,
}

/// How patient we are with a work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patient<'a> {
    /// How long to wait between attempts.
    pub(crate) retry: &'a RetryPlan,
    /// After how long the sender is told; zero: never.
    pub(crate) delay_warning: Duration,
    pub(crate) warned: Warned,
    /// In 0..1: keeps works that failed together from coming back together.
    pub(crate) spread: f64,
}

/// What becomes of one recipient.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RecipientOutcome {
    pub(crate) number: u8,
    pub(crate) became: Became,
    /// Why, in a word; it tells whose word the reply is: see `speaker`.
    pub(crate) reason: Cow<'static, str>,
    /// What the next hop said, or what was wrong.
    pub(crate) reply: Reply,
    /// When it was tried last.
    pub(crate) tried: Option<Timestamp>,
}

/// Who gave a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    NextHop,
    Us,
}

impl RecipientOutcome {
    /// Whose word the reply is. Only what answers a command is the next hop's.
    pub(crate) fn speaker(&self) -> Speaker {
        let stages = [Stage::Hello, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];
        let answered = stages.into_iter().any(|stage| stage_word(stage) == self.reason);
        if answered { Speaker::NextHop } else { Speaker::Us }
    }
}

/// What follows from an attempt that came to `tried`.
pub(crate) fn of_attempt(info: &WorkInfo, tried: Tried, patient: Patient<'_>) -> Outcome {
    let next = next(info, tried.at, patient);
    let rest = rest(info, &tried, next);
    let judged = tried.results.into_iter().map(|(number, result)| (number, judge(result)));
    let recipients = judged.map(|(number, judged)| settle(info, number, judged, tried.at, next)).collect();
    let remote = Remote { host: tried.host, address: tried.address };
    attempted(info, tried.at, remote, recipients, rest, patient)
}

/// What follows when it was not sent to the end after all: that is no attempt, and it may go at once. What may have been delivered
/// before still may.
pub(crate) fn of_unsent(info: &WorkInfo, state: State, now: Timestamp) -> Outcome {
    let reason = match info.reason {
        Reason::PossiblyDone => Reason::PossiblyDone,
        _ => Reason::GivenBack,
    };
    waits_on(info, state, now, reason, now)
}

/// What follows when this machine had nothing left to open a connection with: that is no attempt, and no host's fault.
pub(crate) fn of_exhaustion(info: &WorkInfo, state: State, now: Timestamp, spread: f64) -> Outcome {
    let until = info.expires.min(now + EXHAUSTED_FOR.mul_f64(1.0 + spread));
    waits_on(info, state, until, Reason::Exhausted, now)
}

/// What follows when there is nobody to hand a work to.
pub(crate) fn of_no_way(info: &WorkInfo, no_way: &NoWay, now: Timestamp, patient: Patient<'_>) -> Outcome {
    let next = next(info, now, patient);
    let judged = info.remaining.iter().map(|number| (number, judge_no_way(no_way)));
    let recipients = judged.map(|(number, judged)| settle(info, number, judged, now, next)).collect();
    let rest = Rest::Retry { not_before: next, reason: Reason::Deferred };
    attempted(info, now, Remote::default(), recipients, rest, patient)
}

fn attempted(
    info: &WorkInfo,
    at: Timestamp,
    remote: Remote,
    recipients: Vec<RecipientOutcome>,
    rest: Rest,
    patient: Patient<'_>,
) -> Outcome {
    let waits = recipients.iter().any(|recipient| matches!(recipient.became, Became::Deferred { .. }));
    let is_due = waits && is_warning_due(info, patient.delay_warning, patient.warned, at);
    let warned = if is_due { Warned::Yes } else { patient.warned };
    Outcome {
        attempts: info.attempts + 1,
        at,
        state: State { remote: remote.clone(), waiting: troubles(&recipients, at), warned },
        remote,
        recipients,
        rest,
        attempted: Attempted::Yes,
        warn: if is_due { Warn::Now } else { Warn::No },
    }
}

/// Whether the sender is to be told now that his message waits, if it does.
fn is_warning_due(info: &WorkInfo, after: Duration, warned: Warned, now: Timestamp) -> bool {
    !after.is_zero() && warned == Warned::No && now.since(info.first_due) >= after
}

/// What is kept of the recipients that wait.
fn troubles(recipients: &[RecipientOutcome], at: Timestamp) -> Vec<(u8, Trouble)> {
    let waiting = recipients.iter().filter(|recipient| matches!(recipient.became, Became::Deferred { .. }));
    let kept = waiting.map(|recipient| {
        let reason = recipient.reason.clone().into_owned();
        (recipient.number, Trouble { reason, reply: recipient.reply.clone(), at })
    });
    kept.collect()
}

/// What follows when nothing was attempted: works wait on as they did, but for the recipients that end.
fn waits_on(info: &WorkInfo, state: State, not_before: Timestamp, reason: Reason, now: Timestamp) -> Outcome {
    Outcome {
        attempts: info.attempts,
        at: now,
        remote: state.remote.clone(),
        recipients: Vec::new(),
        rest: Rest::Wait { not_before, reason },
        state,
        attempted: Attempted::No,
        warn: Warn::No,
    }
}

/// What follows when a work that waits is looked at: it is too old, or its sender is told that it waits, or nothing.
pub(crate) fn of_waiting(info: &WorkInfo, state: State, rule: &Rule, now: Timestamp) -> Option<Outcome> {
    if info.expires <= now {
        return Some(of_expiry(info, state, now));
    }
    let is_due = is_warning_due(info, rule.delay_warning, state.warned, now);
    is_due.then(|| waits_and_warns(info, state, (info.not_before, info.reason), rule, now))
}

/// What follows when a work's sender is paused: it waits until the pause ends, but is looked at before that. So nothing waits for a
/// pause that is gone, whatever came between its end and the works that it had put off.
pub(crate) fn of_pause(info: &WorkInfo, state: State, pause: &Pause, rule: &Rule, now: Timestamp) -> Outcome {
    let look = info.expires.min(now + LOOKED_AT_AGAIN);
    let until = pause.until.map_or(look, |end| end.min(look));
    waits_and_warns(info, state, (until, Reason::Paused), rule, now)
}

/// A work waits until then, and its sender is told if it is time for that.
fn waits_and_warns(
    info: &WorkInfo,
    mut state: State,
    (until, reason): (Timestamp, Reason),
    rule: &Rule,
    now: Timestamp,
) -> Outcome {
    if !is_warning_due(info, rule.delay_warning, state.warned, now) {
        return waits_on(info, state, until, reason, now);
    }
    state.warned = Warned::Yes;
    let recipients = info.remaining.iter().map(|number| {
        last_known(number, &state, Became::Deferred { until }, "waiting", || {
            Reply::new(450, (4, 4, 7), "it waits for its turn; no attempt is on record")
        })
    });
    let recipients = recipients.collect();
    Outcome { recipients, warn: Warn::Now, ..waits_on(info, state, until, reason, now) }
}

/// What follows when no mail is sent to some of a work's recipients: they fail, and the others wait on.
pub(crate) fn of_suppression(
    info: &WorkInfo,
    suppressed: &[(u8, String)],
    state: &State,
    now: Timestamp,
) -> Outcome {
    let recipients = suppressed.iter().map(|(number, why)| {
        let mut reply = policy::suppressed(why);
        cut(&mut reply);
        RecipientOutcome {
            number: *number,
            became: Became::Failed,
            reason: "suppressed".into(),
            reply,
            tried: None,
        }
    });
    let recipients = recipients.collect();
    Outcome { recipients, ..waits_on(info, state.clone(), info.not_before, info.reason, now) }
}

/// When the next attempt is due after one that did not end it.
fn next(info: &WorkInfo, at: Timestamp, patient: Patient<'_>) -> Timestamp {
    (at + patient.retry.wait_after(info.attempts + 1, patient.spread)).min(info.expires)
}

fn settle(
    info: &WorkInfo,
    number: u8,
    (verdict, reason, mut reply): Judged,
    at: Timestamp,
    next: Timestamp,
) -> RecipientOutcome {
    cut(&mut reply);
    let became = match verdict {
        Verdict::Delivered => Became::Delivered,
        Verdict::Failed => Became::Failed,
        Verdict::NotNow if info.expires <= at => Became::Expired,
        Verdict::NotNow => Became::Deferred { until: next },
    };
    RecipientOutcome { number, became, reason, reply, tried: Some(at) }
}

/// Longest text of a reply that is kept, in bytes: it stands in the queue and in the log once for each recipient.
const REPLY: usize = 1024;
const _: () = assert!((REPLY + 256) * (queue::MAX_RECIPIENTS as usize) < queue::MAX_HEADER);

fn cut(reply: &mut Reply) {
    if reply.text.len() > REPLY {
        reply.text = shortened(&reply.text).to_owned().into();
    }
}

/// As much of a text as is kept.
pub(crate) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(REPLY)]
}

/// What becomes of the recipients that an attempt did not end.
fn rest(info: &WorkInfo, tried: &Tried, next: Timestamp) -> Rest {
    let broke = |how: fn(Stage, Broke) -> bool| {
        tried.results.iter().any(|(_, result)| {
            matches!(result, TriedRecipient::Broken { stage, trouble, .. } if how(*stage, *trouble))
        })
    };
    if broke(|_, trouble| trouble == Broke::Damaged) {
        return Rest::Hold { reason: Reason::Damaged };
    }
    // Behind the final dot silence is no word: any later attempt may be the second delivery.
    let may_be_done = info.reason == Reason::PossiblyDone || broke(|stage, _| stage == Stage::Dot);
    let reason = if may_be_done { Reason::PossiblyDone } else { Reason::Deferred };
    Rest::Retry { not_before: next, reason }
}

/// What follows when a work is too old to be tried again.
pub(crate) fn of_expiry(info: &WorkInfo, state: State, now: Timestamp) -> Outcome {
    let recipients = info.remaining.iter().map(|number| {
        last_known(number, &state, Became::Expired, "expired", || {
            Reply::new(450, (4, 4, 7), "no attempt is on record")
        })
    });
    let recipients = recipients.collect();
    Outcome { recipients, rest: NOTHING_LEFT, ..waits_on(info, state, now, info.reason, now) }
}

/// A recipient with what was known of it last.
fn last_known(
    number: u8,
    state: &State,
    became: Became,
    reason: &'static str,
    reply: impl FnOnce() -> Reply,
) -> RecipientOutcome {
    let last = state.waiting.iter().find(|(waiting, _)| *waiting == number).map(|(_, trouble)| trouble);
    RecipientOutcome {
        number,
        became,
        reason: last.map_or(reason.into(), |trouble| trouble.reason.clone().into()),
        reply: last.map_or_else(reply, |trouble| trouble.reply.clone()),
        tried: last.map(|trouble| trouble.at),
    }
}

/// Never read: all recipients have ended.
const NOTHING_LEFT: Rest = Rest::Hold { reason: Reason::Deferred };

/// What an attempt came to for a recipient, whatever is to follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Delivered,
    Failed,
    NotNow,
}

type Judged = (Verdict, Cow<'static, str>, Reply);

/// What a result of an attempt says of its recipient.
pub(crate) fn verdict(result: &TriedRecipient) -> Verdict {
    match result {
        TriedRecipient::Reply { stage: Stage::Dot, reply } if reply.is_positive() => Verdict::Delivered,
        // A host that does not even greet says nothing of the message. And 552 to RCPT is what old hosts say to one recipient too
        // many (RFC 5321, section 4.5.3.1.10).
        TriedRecipient::Reply { stage: Stage::Hello, .. } => Verdict::NotNow,
        TriedRecipient::Reply { stage: Stage::Rcpt, reply } if reply.code == 552 => Verdict::NotNow,
        TriedRecipient::Reply { reply, .. } if reply.is_permanent() => Verdict::Failed,
        TriedRecipient::Reply { .. } | TriedRecipient::Broken { .. } => Verdict::NotNow,
        TriedRecipient::Unsupported(_) | TriedRecipient::TooBig(_) => Verdict::Failed,
    }
}

fn judge(result: TriedRecipient) -> Judged {
    let verdict = verdict(&result);
    let (word, reply): (Cow<'static, str>, Reply) = match result {
        TriedRecipient::Reply { reply, .. } if verdict == Verdict::Delivered => ("taken".into(), reply),
        TriedRecipient::Reply { stage, reply } => (stage_word(stage).into(), reply),
        TriedRecipient::Unsupported(Missing::EightBitMime) => {
            let text = "the next hop cannot carry 8-bit text (8BITMIME), which this message holds";
            ("needs-8bitmime".into(), Reply::new(554, (5, 6, 3), text))
        }
        TriedRecipient::Unsupported(Missing::SmtpUtf8) => {
            let text = "the next hop cannot carry UTF-8 in addresses or header fields (SMTPUTF8), which this message needs";
            ("needs-smtputf8".into(), Reply::new(553, (5, 6, 7), text))
        }
        TriedRecipient::TooBig(limit) => {
            let text = format!("the next hop takes messages of at most {limit} bytes");
            ("too-big".into(), Reply::new(552, (5, 3, 4), text))
        }
        TriedRecipient::Broken { stage, trouble, text } => {
            let (word, status): (_, EnhancedCode) = match trouble {
                Broke::Connect => ("connect", (4, 4, 1)),
                Broke::Timeout => ("timeout", (4, 4, 2)),
                Broke::Lost => ("lost", (4, 4, 2)),
                Broke::NoTls => ("tls", (4, 7, 4)),
                Broke::Tls => ("tls", (4, 7, 5)),
                Broke::Protocol => ("protocol", (4, 5, 0)),
                Broke::Damaged => ("damaged", (4, 3, 0)),
                Broke::Exhausted => ("exhausted", (4, 3, 1)),
            };
            let text =
                if stage == Stage::Hello { text } else { format!("{text} (after {})", stage_word(stage)) };
            (word.into(), Reply::new(451, status, text))
        }
    };
    (verdict, word, reply)
}

/// Where DNS leads nowhere. A domain that takes no mail says so itself (RFC 7505, section 4); that a name cannot be looked up
/// says nothing of it.
fn judge_no_way(no_way: &NoWay) -> Judged {
    let (verdict, word, code, status) = match no_way.why {
        Why::NullMx => (Verdict::Failed, "null-mx", 556, (5, 1, 10)),
        Why::NoSuchDomain => (Verdict::Failed, "no-such-domain", 550, (5, 1, 2)),
        Why::NoAddress => (Verdict::Failed, "no-address", 550, (5, 4, 4)),
        Why::Loop => (Verdict::Failed, "loop", 554, (5, 4, 6)),
        Why::Dns | Why::Exhausted => (Verdict::NotNow, "dns", 451, (4, 4, 3)),
    };
    (verdict, word.into(), Reply::new(code, status, no_way.text.clone()))
}

/// The command whose reply was the last word.
fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Hello => "hello",
        Stage::Mail => "mail",
        Stage::Rcpt => "rcpt",
        Stage::Data => "data",
        Stage::Dot => "message",
    }
}

impl Outcome {
    /// How recipients ended, for the queue.
    pub(crate) fn ends(&self) -> Vec<(End, Recipients)> {
        let mut ends: Vec<(End, Recipients)> = Vec::new();
        for recipient in &self.recipients {
            let end = match recipient.became {
                Became::Delivered => End::Done,
                Became::Failed => End::Failed,
                Became::Expired => End::Expired,
                Became::Deferred { .. } => continue,
            };
            let one = Recipients::only(recipient.number);
            match ends.iter_mut().find(|(other, _)| *other == end) {
                Some((_, some)) => *some = some.with(one),
                None => ends.push((end, one)),
            }
        }
        ends
    }

    /// The recipients of whom the log is to hold something: all of an attempt, else those that ended.
    pub(crate) fn told(&self) -> impl Iterator<Item = &RecipientOutcome> + Clone {
        let attempted = self.attempted;
        self.recipients.iter().filter(move |recipient| {
            attempted == Attempted::Yes || !matches!(recipient.became, Became::Deferred { .. })
        })
    }

    /// Whether there is anything of which the sender is to be told.
    pub(crate) fn is_to_be_reported(&self) -> bool {
        self.to_report().chain(self.to_warn_of()).next().is_some()
    }

    /// The recipients that wait, if the sender is to be told of that now.
    pub(crate) fn to_warn_of(&self) -> impl Iterator<Item = &RecipientOutcome> {
        let warn = self.warn;
        self.recipients
            .iter()
            .filter(move |recipient| warn == Warn::Now && matches!(recipient.became, Became::Deferred { .. }))
    }

    /// The recipients that failed, of which the sender is to be told.
    pub(crate) fn to_report(&self) -> impl Iterator<Item = &RecipientOutcome> {
        self.recipients
            .iter()
            .filter(|recipient| matches!(recipient.became, Became::Failed | Became::Expired))
    }
}

#[cfg(test)]
mod tests;
