//! How far a drill is, for those who watch it at a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::Planned;
use crate::fleet::Sums;

/// A bar on standard error; nobody sees it where that is no terminal.
#[derive(Debug)]
pub(super) struct Screen {
    bar: ProgressBar,
}

impl Screen {
    pub(super) fn new(lasts: Duration) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} s, {msg}");
        let style = style.expect("it names what a bar has");
        Self { bar: ProgressBar::new(lasts.as_secs()).with_style(style) }
    }

    /// What the drill does now.
    pub(super) fn phase(&self, what: &'static str) {
        self.bar.set_message(what);
        self.bar.tick();
    }

    /// A fault begins.
    pub(super) fn happens(&self, planned: &Planned, node: &str) {
        self.bar.println(format!("{:5.1} s  {node} {}", planned.at.as_secs_f64(), planned.words()));
    }

    /// How it stands.
    pub(super) fn shows(&self, since: Duration, sums: &Sums) {
        self.bar.set_position(since.as_secs().min(self.bar.length().unwrap_or(0)));
        self.bar.set_message(format!(
            "accepted {} = delivered {} + {} under way, came twice {}",
            sums.accepted,
            sums.delivered,
            sums.open(),
            sums.twice
        ));
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end();
    }
}
