//! The tables, as Markdown for docs/PERFORMANCE.md.

use anyhow::{Result, bail};

use super::{
    machine,
    measure::{Figures, Median},
    targets::{Outcome, Verdict},
};

/// Both tables under a line that says when, where and how they were measured.
///
/// # Errors
/// The date cannot be told.
pub(crate) fn markdown(figures: &[Figures], verdicts: &[Verdict], runs: u32) -> Result<String> {
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let mut lines = vec![format!("`cargo xtask {command}`; {}.", machine::describe()?)];
    if !figures.is_empty() {
        let method = figures.iter().find_map(|each| each.cost.as_ref()).map_or("", |cost| cost.method);
        let turns = if figures.iter().any(|each| each.beside.is_some()) {
            " (of two in turns twice as many, each started anew for each and as often first as second; their ratio is that of each turn)"
        } else {
            ""
        };
        lines.push(format!(
            "Load tools on the same cores, loopback, kept sessions; `250` after sync in both servers; medians of \
             {runs} runs{turns} after a warm-up, least and most in brackets. Delivered: by the sink's counter, from first \
             connect to last message. CPU: {method}, until queue and CPU are quiet. Written: to the device, by all."
        ));
        lines.push(String::new());
        lines.push("| size, sessions | server | messages a run | delivered/s | CPU µs a message | written KiB a message | memory MiB |".into());
        lines.push("|---|---|--:|--:|--:|--:|--:|".into());
        lines.extend(figures.iter().map(figure_line));
    }
    if !verdicts.is_empty() {
        lines.push(String::new());
        lines.extend(table_of(verdicts));
    }
    Ok(lines.join("\n"))
}

/// Tables, and verdicts if there are any, under a line that says when, where and how they came about; fails if a target was missed.
///
/// # Errors
/// A target was missed, or the date cannot be told.
pub(crate) fn print(method: &str, tables: &[String], verdicts: &[Verdict]) -> Result<()> {
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    println!("`cargo xtask {command}`; {}. {method}\n", machine::describe()?);
    for table in tables {
        println!("{table}\n");
    }
    if !verdicts.is_empty() {
        println!("{}", table_of(verdicts).join("\n"));
    }
    expect_all(verdicts)
}

/// Fails if a target was missed.
///
/// # Errors
/// Says how many were.
pub(crate) fn expect_all(verdicts: &[Verdict]) -> Result<()> {
    match verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Miss).count() {
        0 => Ok(()),
        missed => bail!("{missed} of {} targets missed", verdicts.len()),
    }
}

fn table_of(verdicts: &[Verdict]) -> Vec<String> {
    let head = ["| Posthouse | target | measured | |".to_owned(), "|---|---|--:|---|".to_owned()];
    head.into_iter().chain(verdicts.iter().map(verdict_line)).collect()
}

fn figure_line(figures: &Figures) -> String {
    let nothing = || "–".to_owned();
    let cost = figures.cost.as_ref();
    let cpu = cost.map_or_else(nothing, |cost| spread(cost.cpu));
    let written = cost
        .and_then(|cost| cost.written)
        .map_or_else(nothing, |written| format!("{:.1}", written.value / 1024.0));
    let memory = cost.map_or_else(nothing, |cost| (cost.memory >> 20).to_string());
    format!(
        "| {} KiB, {} | {} | {} | {} | {cpu} | {written} | {memory} |",
        figures.row.kib,
        figures.row.sessions,
        figures.contender.name(),
        figures.messages,
        spread(figures.rate),
    )
}

fn verdict_line(verdict: &Verdict) -> String {
    let outcome = match verdict.outcome {
        Outcome::Ok => "ok",
        Outcome::Miss => "MISS",
        Outcome::Void => "void: Postfix is too slow here to compare with",
    };
    format!("| {} | {} | {} | {outcome} |", verdict.place, verdict.target, verdict.measured)
}

fn spread(median: Median) -> String {
    format!("{:.0} ({:.0}–{:.0})", median.value, median.min, median.max)
}
