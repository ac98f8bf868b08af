//! What follows from attempts and from the lack of them.

use std::time::Duration;

use base::{MessageId, WorkId};
use queue::{Kind, Status};
use store::settings::{About, PauseId};

use super::*;
use crate::Config;

const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

fn info(expires: Timestamp) -> WorkInfo {
    WorkInfo {
        work: WorkId { message: MessageId::generate(NOW), index: 0 },
        kind: Kind::Mail,
        first_due: NOW,
        lane: "example.com".into(),
        account: "".into(),
        priority: 5,
        not_before: NOW,
        expires,
        attempts: 0,
        remaining: Recipients::first(3),
        status: Status::Waiting,
        reason: Reason::New,
        lease: None,
        held_by: None,
        lost_by: None,
    }
}

fn outcome(expires: Timestamp, results: Vec<TriedRecipient>) -> Outcome {
    let results = (0..).zip(results).collect();
    let tried = Tried { at: NOW, host: "mx:25".into(), address: None, results };
    of_attempt(&info(expires), tried, patient(&RetryPlan::default(), Warned::No))
}

fn patient(retry: &RetryPlan, warned: Warned) -> Patient<'_> {
    Patient { retry, delay_warning: Duration::from_secs(3600), warned, spread: 0.5 }
}

fn reply(stage: Stage, code: u16) -> TriedRecipient {
    TriedRecipient::Reply { stage, reply: Reply::plain(code, "said") }
}

#[test]
fn each_recipient_has_his_own_fate() {
    let far = NOW + Duration::from_secs(86_400);
    let outcome =
        outcome(far, vec![reply(Stage::Dot, 250), reply(Stage::Rcpt, 550), reply(Stage::Rcpt, 450)]);
    let next = NOW + Duration::from_secs(60);
    let became: Vec<Became> = outcome.recipients.iter().map(|recipient| recipient.became).collect();
    assert_eq!(became, [Became::Delivered, Became::Failed, Became::Deferred { until: next }]);
    assert_eq!(outcome.ends(), [(End::Done, Recipients::only(0)), (End::Failed, Recipients::only(1))]);
    assert_eq!(outcome.rest, Rest::Retry { not_before: next, reason: Reason::Deferred });
    assert_eq!(outcome.state.waiting.len(), 1);
    assert_eq!(outcome.to_report().map(|recipient| recipient.number).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_a_pause_puts_off_is_looked_at_again_before_it_ends() {
    let far = NOW + Duration::from_secs(86_400);
    let rule = Config::for_tests().delivery.rule("example.com", None);
    let wait = |until: Option<Timestamp>, expires: Timestamp, now: Timestamp| {
        let pause = Pause {
            id: PauseId(1),
            about: About::Sender("anna@example.com".parse().unwrap()),
            until,
            why: String::new(),
            by: String::new(),
            since: NOW,
        };
        of_pause(&info(expires), State::default(), &pause, &rule, now)
    };
    let rests = |not_before| Rest::Wait { not_before, reason: Reason::Paused };
    let minute = Duration::from_secs(60);
    assert_eq!(wait(None, far, NOW).rest, rests(NOW + LOOKED_AT_AGAIN));
    assert_eq!(wait(Some(far), far, NOW).rest, rests(NOW + LOOKED_AT_AGAIN));
    assert_eq!(wait(Some(NOW + minute), far, NOW).rest, rests(NOW + minute));
    assert_eq!(wait(None, NOW + minute, NOW).rest, rests(NOW + minute));
    let late = wait(None, far, NOW + rule.delay_warning);
    assert_eq!((late.warn, late.state.warned), (Warn::Now, Warned::Yes));
}

#[test]
fn what_was_scheduled_is_late_only_after_its_time() {
    let tomorrow = NOW + Duration::from_secs(86_400);
    let info = WorkInfo { first_due: tomorrow, ..info(tomorrow + Duration::from_secs(86_400)) };
    let warn = |at: Timestamp| {
        let results = vec![(0, reply(Stage::Rcpt, 450))];
        let tried = Tried { at, host: "mx:25".into(), address: None, results };
        of_attempt(&info, tried, patient(&RetryPlan::default(), Warned::No)).warn
    };
    assert_eq!((warn(tomorrow), warn(tomorrow + Duration::from_secs(3600))), (Warn::No, Warn::Now));
}

#[test]
fn a_wordy_host_is_cut_short() {
    let wordy = Reply::plain(450, "é".repeat(10_000));
    let outcome = outcome(NOW, vec![TriedRecipient::Reply { stage: Stage::Rcpt, reply: wordy }]);
    assert_eq!(outcome.recipients[0].reply.text.len(), REPLY);
}

#[test]
fn a_positive_reply_before_the_dot_delivers_nothing() {
    let outcome = outcome(NOW + Duration::from_secs(99), vec![reply(Stage::Rcpt, 250)]);
    assert!(outcome.ends().is_empty());
}

#[test]
fn what_is_too_old_expires_instead_of_waiting_again() {
    let outcome = outcome(NOW, vec![reply(Stage::Rcpt, 450), reply(Stage::Dot, 250)]);
    assert_eq!(outcome.ends(), [(End::Expired, Recipients::only(0)), (End::Done, Recipients::only(1))]);
    let last = Trouble { reason: "rcpt".into(), reply: Reply::plain(450, "busy"), at: NOW };
    let state = State { waiting: vec![(1, last)], ..State::default() };
    let expired = of_expiry(&info(NOW), state, NOW);
    assert_eq!(expired.recipients.len(), 3);
    assert_eq!(expired.recipients[1].reply.text, "busy");
    let reasons: Vec<&str> = expired.recipients.iter().map(|recipient| &*recipient.reason).collect();
    assert_eq!(reasons, ["expired", "rcpt", "expired"]);
}

#[test]
fn the_last_wait_ends_at_the_expiry() {
    let soon = NOW + Duration::from_secs(5);
    let outcome = outcome(soon, vec![reply(Stage::Rcpt, 450)]);
    assert_eq!(outcome.rest, Rest::Retry { not_before: soon, reason: Reason::Deferred });
}

#[test]
fn what_was_not_sent_to_its_end_goes_at_once_and_keeps_the_mark_of_a_possible_duplicate() {
    let expires = NOW + Duration::from_secs(3600);
    for (before, after) in [(Reason::New, Reason::GivenBack), (Reason::PossiblyDone, Reason::PossiblyDone)] {
        let outcome = of_unsent(&WorkInfo { reason: before, ..info(expires) }, State::default(), NOW);
        assert_eq!(outcome.rest, Rest::Wait { not_before: NOW, reason: after });
        assert_eq!((outcome.attempts, outcome.told().count()), (0, 0));
    }
}

#[test]
fn what_may_have_been_delivered_may_have_been_so_after_a_deferral_too() {
    let reply = Reply::new(452, (4, 3, 1), "not now");
    let results = vec![(0, TriedRecipient::Reply { stage: Stage::Mail, reply })];
    let tried = Tried { at: NOW, host: "mx:25".into(), address: None, results };
    let retry = RetryPlan::default();
    for (before, after) in [(Reason::New, Reason::Deferred), (Reason::PossiblyDone, Reason::PossiblyDone)] {
        let info = WorkInfo { reason: before, ..info(NOW + Duration::from_secs(3600)) };
        let outcome = of_attempt(&info, tried.clone(), patient(&retry, Warned::No));
        assert!(matches!(outcome.rest, Rest::Retry { reason, .. } if reason == after), "{:?}", outcome.rest);
    }
}
