//! What the demo shows: how to take part, a line a second, and the sums.

use std::{
    env,
    io::{IsTerminal, Write as _, stdout},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use crate::api::StatusReport;

/// How the summary is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug)]
pub(super) struct Summary {
    form: Form,
    lines: u64,
}

/// The column heads are shown again after so many lines.
const HEADS_EVERY: u64 = 20;

impl Summary {
    pub(super) fn new(form: Form) -> Self {
        Self { form, lines: 0 }
    }

    pub(super) fn welcome(&self, smtp: SocketAddr, console: SocketAddr, folder: &Path) {
        if self.form == Form::Json {
            return;
        }
        let (data, port) = (folder.join("data"), smtp.port());
        say(&format!(
            "A Posthouse node is running, with throwaway data in {data}.\n\
             Sample traffic comes in by SMTP at {smtp} and goes out to a sink that defers a little and refuses less.\n\
             \n\
             Send it a message of your own, and see what became of it:\n\
             \n  \
             curl --crlf smtp://{smtp} --mail-from me@sender.example --mail-rcpt you@example.com -T README.md\n  \
             swaks --server 127.0.0.1:{port} --from me@sender.example --to you@example.com\n  \
             {program} mail log --data-dir {data} --recipient you@example.com\n\
             \n\
             Health and metrics: http://{console}/    Ctrl-C ends it.\n",
            data = data.display(),
            program = program(),
        ));
    }

    /// Shows how the node stands.
    pub(super) fn show(&mut self, status: &StatusReport) {
        if self.form == Form::Json {
            return json(status);
        }
        if self.lines.is_multiple_of(HEADS_EVERY) {
            let heads = ["time", "accepted", "delivered", "deferred", "bounced", "queued", "in/s", "out/s"];
            let [time, rest @ ..] = heads;
            say(&bold(&format!("{time:>6}{}", rest.map(|head| format!("{head:>11}")).concat())));
        }
        self.lines += 1;
        let counts = [
            status.accepted,
            status.delivered,
            status.deferred,
            status.bounced + status.expired,
            status.queued,
        ];
        let rates = [status.rates.accepted, status.rates.delivered];
        say(&format!(
            "{:>5}s{}{}",
            status.uptime_seconds,
            counts.map(|count| format!("{count:>11}")).concat(),
            rates.map(|rate| format!("{rate:>11.0}")).concat(),
        ));
    }

    /// Says that the end has begun.
    pub(super) fn ending(&self) {
        if self.form == Form::Text {
            say("\nThe traffic ends; the node delivers what it has.");
        }
    }

    /// Shows the sums at the end.
    pub(super) fn sums(&self, status: &StatusReport, sent: u64, time: Duration) {
        if self.form == Form::Json {
            return json(status);
        }
        let ended = status.delivered + status.bounced + status.expired;
        say(&format!(
            "In {:.1} s: {sent} recipients of the sample traffic were answered with 250.\n\
             accepted {} (reports to senders included) = delivered {} + bounced {} + expired {} + queued {}{}\n\
             Attempts that were deferred: {}. The data is gone with the demo.",
            time.as_secs_f64(),
            status.accepted,
            status.delivered,
            status.bounced,
            status.expired,
            status.queued,
            if status.accepted == ended + status.queued { "" } else { "  (does not add up!)" },
            status.deferred,
        ));
    }
}

/// This program, as it was called.
fn program() -> String {
    env::args().next().unwrap_or_else(|| "posthouse".into())
}

fn json(status: &StatusReport) {
    if let Ok(line) = serde_json::to_string(status) {
        say(&line);
    }
}

fn bold(text: &str) -> String {
    if stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// A reader that has left does not end the demo.
fn say(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}
