//! What Posthouse must reach, and whether it has.

use super::{
    idle::Idle,
    measure::{Figures, Median, Row},
    relay::Contender,
};

/// A target beside what was measured.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// Where it applies.
    pub(crate) place: String,
    /// What is asked for.
    pub(crate) target: String,
    /// What was measured.
    pub(crate) measured: String,
    /// Whether it is reached.
    pub(crate) outcome: Outcome,
}

impl Verdict {
    /// Something is to be at most so much, in this unit.
    pub(crate) fn at_most(place: &str, unit: &str, measured: f64, most: f64) -> Self {
        Self::new(place, unit, measured, &format!("at most {most}"), measured <= most)
    }

    /// Something is to be at least so much, in this unit.
    pub(crate) fn at_least(place: &str, unit: &str, measured: f64, least: f64) -> Self {
        Self::new(place, unit, measured, &format!("at least {least}"), measured >= least)
    }

    fn new(place: &str, unit: &str, measured: f64, bound: &str, reached: bool) -> Self {
        Self {
            place: place.to_owned(),
            target: format!("{bound} {unit}"),
            measured: format!("{measured:.2}"),
            outcome: if reached { Outcome::Ok } else { Outcome::Miss },
        }
    }
}

/// How a target fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Reached.
    Ok,
    /// Not reached.
    Miss,
    /// Postfix was so slow that a comparison with it says nothing.
    Void,
}

/// What one figure of Posthouse is held against.
#[derive(Clone, Copy)]
enum Target {
    /// Delivered at least so many times as fast as Postfix.
    PostfixRate(f64),
    /// Delivered at least this part of the null run.
    NullRate(f64),
    /// CPU per message at most one part in so many of Postfix's.
    PostfixCpu(f64),
    /// Delivered at least this part of what it is with 20 sessions.
    FewerSessionsRate(f64),
    /// Delivered at least this part of what the former release did in the same turn, by the median of all turns.
    FormerRate(f64),
}

/// Judges what was measured; a target lacks a verdict where a figure that it needs was not taken.
pub(crate) fn judge(figures: &[Figures], idle: Option<&Idle>) -> Vec<Verdict> {
    let held = TARGETS.iter().filter_map(|(row, target)| judge_one(figures, *row, *target));
    held.chain(idle.map(judge_idle)).collect()
}

fn judge_one(figures: &[Figures], row: Row, target: Target) -> Option<Verdict> {
    let find = |contender, row| figures.iter().find(|each| each.contender == contender && each.row == row);
    let rate = |contender, row| find(contender, row).map(|each| each.rate.value);
    let cpu = |contender| find(contender, row)?.cost.as_ref().map(|cost| cost.cpu.value);
    let ours = rate(Contender::Posthouse, row)?;
    let (ratio, reached, asked, measured) = match target {
        Target::PostfixRate(times) => {
            let ratio = ours / rate(Contender::Postfix, row)?;
            (ratio, ratio >= times, format!("at least {times} x Postfix's rate"), format!("{ratio:.1} x"))
        }
        Target::NullRate(part) => {
            let ratio = ours / rate(Contender::Null, row)?;
            (ratio, ratio >= part, format!("at least {part} of the null run"), format!("{ratio:.2}"))
        }
        Target::PostfixCpu(part) => {
            let ratio = cpu(Contender::Postfix)? / cpu(Contender::Posthouse)?;
            (ratio, ratio >= part, format!("at most 1/{part} of Postfix's CPU"), format!("1/{ratio:.1}"))
        }
        Target::FewerSessionsRate(part) => {
            let ratio = ours / rate(Contender::Posthouse, Row { sessions: 20, ..row })?;
            (ratio, ratio >= part, format!("at least {part} of 20 sessions"), format!("{ratio:.2}"))
        }
        Target::FormerRate(part) => {
            let Median { value, min, max } = find(Contender::Posthouse, row)?.beside?;
            let measured = format!("{value:.3} ({min:.2}–{max:.2})");
            (value, value >= part, format!("at least {part} of the former release"), measured)
        }
    };
    let compares_with_postfix = matches!(target, Target::PostfixRate(_) | Target::PostfixCpu(_));
    let void = compares_with_postfix && {
        let nothing_under = if row.kib < 10 { VOID_UNDER_SMALL } else { VOID_UNDER };
        let postfix = rate(Contender::Postfix, row)?;
        rate(Contender::Null, row).is_some_and(|null| postfix / null < nothing_under)
    };
    let outcome = match (void, reached && ratio.is_finite()) {
        (true, _) => Outcome::Void,
        (false, true) => Outcome::Ok,
        (false, false) => Outcome::Miss,
    };
    let place = format!("{} KiB, {} sessions", row.kib, row.sessions);
    Some(Verdict { place, target: asked, measured, outcome })
}

fn judge_idle(idle: &Idle) -> Verdict {
    #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
    let measured = format!("{:.1} KiB", idle.bytes_each as f64 / 1024.0);
    Verdict {
        place: format!("{} idle sessions", idle.sessions),
        target: format!("at most {} KiB each", IDLE_BYTES / 1024),
        measured,
        outcome: if idle.bytes_each <= IDLE_BYTES { Outcome::Ok } else { Outcome::Miss },
    }
}

const SMALL: Row = Row { kib: 1, sessions: 20 };
const MIDDLE: Row = Row { kib: 10, sessions: 20 };
const LARGE: Row = Row { kib: 100, sessions: 20 };
const MANY: Row = Row { kib: 10, sessions: 100 };

const TARGETS: [(Row, Target); 11] = [
    (SMALL, Target::PostfixRate(6.0)),
    (MIDDLE, Target::PostfixRate(8.0)),
    (MIDDLE, Target::NullRate(0.31)),
    (MIDDLE, Target::PostfixCpu(15.0)),
    (MANY, Target::FewerSessionsRate(0.9)),
    (LARGE, Target::PostfixRate(3.0)),
    (LARGE, Target::NullRate(0.45)),
    (SMALL, Target::FormerRate(0.93)),
    (MIDDLE, Target::FormerRate(0.93)),
    (MANY, Target::FormerRate(0.93)),
    (LARGE, Target::FormerRate(0.93)),
];

const IDLE_BYTES: u64 = 10 * 1024;

/// Where Postfix reaches less of the null run than this, the machine is not fit to compare on.
const VOID_UNDER: f64 = 0.03;

/// The same for small messages, where the null run is far faster.
const VOID_UNDER_SMALL: f64 = 0.015;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Cost;

    fn figures(contender: Contender, row: Row, rate: f64, cpu: f64) -> Figures {
        let median = |value| Median { value, min: value, max: value };
        let cost = Cost { cpu: median(cpu), written: None, memory: 0, method: "" };
        Figures { contender, row, messages: 1, rate: median(rate), beside: None, cost: Some(cost) }
    }

    fn outcomes(null: f64, postfix: f64, ours: f64, cpu: f64) -> Vec<Outcome> {
        let taken = [
            figures(Contender::Null, MIDDLE, null, 0.0),
            figures(Contender::Postfix, MIDDLE, postfix, 1960.0),
            figures(Contender::Posthouse, MIDDLE, ours, cpu),
        ];
        judge(&taken, None).iter().map(|verdict| verdict.outcome).collect()
    }

    #[test]
    fn each_target_is_judged_by_the_figures_it_needs() {
        assert_eq!(outcomes(20_000.0, 790.0, 6500.0, 120.0), [Outcome::Ok; 3]);
        assert_eq!(outcomes(20_000.0, 790.0, 6300.0, 131.0), [Outcome::Miss, Outcome::Ok, Outcome::Miss]);
        assert_eq!(outcomes(30_000.0, 790.0, 6000.0, 300.0), [Outcome::Void, Outcome::Miss, Outcome::Void]);
    }

    #[test]
    fn a_figure_that_was_not_taken_is_not_judged() {
        assert!(judge(&[figures(Contender::Posthouse, SMALL, 9000.0, 90.0)], None).is_empty());
        let idle = Idle { sessions: 2000, bytes_each: IDLE_BYTES + 1 };
        assert_eq!(judge(&[], Some(&idle))[0].outcome, Outcome::Miss);
    }

    #[test]
    fn this_release_is_held_against_the_former_one() {
        let beside = |part| Figures {
            beside: Some(Median::of(vec![part])),
            ..figures(Contender::Posthouse, SMALL, 9000.0, 90.0)
        };
        assert_eq!(judge(&[beside(0.94)], None)[0].outcome, Outcome::Ok);
        assert_eq!(judge(&[beside(0.92)], None)[0].outcome, Outcome::Miss);
    }

    #[test]
    fn more_sessions_are_held_against_fewer() {
        let fewer = figures(Contender::Posthouse, MIDDLE, 8000.0, 100.0);
        let more = figures(Contender::Posthouse, MANY, 7100.0, 100.0);
        assert_eq!(judge(&[fewer, more], None)[0].outcome, Outcome::Miss);
    }
}
