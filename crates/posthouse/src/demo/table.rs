//! The live table for a terminal: drawn over itself again and again.

use std::{collections::VecDeque, io::stdout};

use rustix::termios::tcgetwinsize;

use super::{
    scene::{Event, Scene},
    summary::account,
};
use crate::output::{Align, Table};

/// What was drawn, so that it can be drawn over.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Lines on the screen below which the table begins.
    drawn: usize,
    events: VecDeque<Event>,
}

/// Events that are shown.
const EVENTS: usize = 8;

impl Live {
    /// The table and what stands below it, with what moves the cursor back over the last one.
    pub(super) fn draw(&mut self, scene: &mut Scene) -> String {
        self.events.extend(scene.events());
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
        let lines = lines(&nodes(scene), &account(&scene.sums(), scene.lost()), &self.events, Screen::now());
        self.over(&lines)
    }

    /// Lines that are drawn over those before. On a screen of one row there are none, and nothing moves.
    fn over(&mut self, lines: &[String]) -> String {
        let back = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        self.drawn = lines.len();
        lines.iter().fold(back, |drawn, line| drawn + line + "\n")
    }
}

/// How much fits on the terminal.
#[derive(Clone, Copy, Debug)]
struct Screen {
    columns: usize,
    rows: usize,
}

impl Screen {
    /// As it is now; somebody may make a window larger or smaller.
    fn now() -> Self {
        let size = tcgetwinsize(stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (columns, rows) = size.map_or(USUAL, |size| (size.ws_col, size.ws_row));
        Self { columns: columns.into(), rows: rows.into() }
    }
}

/// The columns and rows of a terminal that does not say how many it has.
const USUAL: (u16, u16) = (80, 24);
const KEYS: &str = "Any key kills a worker; q, or Ctrl-C, ends the demo.";

/// What is drawn, none of it longer than a row of the screen and not more than it has rows: what wraps or scrolls away cannot be
/// drawn over. The oldest events have to go first.
fn lines(nodes: &str, sums: &str, events: &VecDeque<Event>, screen: Screen) -> Vec<String> {
    let mut lines: Vec<String> = nodes.lines().map(str::to_owned).collect();
    lines.extend(broken(sums, screen.columns));
    lines.push(String::new());
    let below = [String::new(), KEYS.to_owned()];
    // The cursor stands in a row of its own.
    let room = (screen.rows - 1).saturating_sub(lines.len() + below.len());
    let latest = events.iter().skip(events.len().saturating_sub(room));
    lines.extend(latest.map(|event| format!("{:6.1}s  {}", event.seconds, event.what)));
    lines.extend(below);
    let from = lines.len().saturating_sub(screen.rows - 1);
    lines.drain(..from);
    lines.iter().map(|line| line.chars().take(screen.columns).collect()).collect()
}

/// A text in lines of at most so many columns, broken between words.
fn broken(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one from the start");
        match last.is_empty() {
            true => last.push_str(word),
            false if last.len() + 1 + word.len() <= columns => *last += &format!(" {word}"),
            false => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The nodes, a line each.
pub(super) fn nodes(scene: &Scene) -> String {
    let sums = scene.sums();
    let all: u64 = sums.nodes.iter().map(|node| node.delivered).sum();
    let right = Align::Right;
    let mut table = Table::new([Align::Left, Align::Left, Align::Left, right, right, right]);
    table.header(["NODE", "ROLE", "STATE", "ACCEPTED", "DELIVERED", "SHARE"]);
    for (number, (member, node)) in scene.fleet().members().iter().zip(&sums.nodes).enumerate() {
        table.row([
            member.name().to_owned(),
            if number == 0 { "manager".into() } else { "worker".into() },
            format!("{:<18}", scene.state(number)),
            node.accepted.to_string(),
            node.delivered.to_string(),
            format!("{}%", (node.delivered * 100).checked_div(all).unwrap_or(0)),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_drawn_over_those_before_and_on_one_row_nothing_scrolls() {
        let mut live = Live::default();
        let two = ["a".to_owned(), "b".to_owned()];
        assert_eq!(live.over(&two), "a\nb\n");
        assert_eq!(live.over(&two), "\x1b[2A\x1b[Ja\nb\n");
        assert_eq!(live.over(&[]), "\x1b[2A\x1b[J", "the window was made smaller");
        assert_eq!(live.over(&[]), "");
    }

    #[test]
    fn nothing_that_is_drawn_is_wider_or_higher_than_the_screen() {
        let sums = "accepted 123456 = delivered 123400 + bounced 40 + queued 16, lost 0, came twice 12";
        let nodes = "NODE  ROLE     STATE               ACCEPTED  DELIVERED  SHARE\nmx1   manager  active\n";
        let event =
            |number| Event { seconds: f64::from(number), what: format!("event {number} {}", "x".repeat(90)) };
        let events: VecDeque<Event> = (0..8).map(event).collect();
        for (columns, rows) in [(200, 60), (80, 24), (60, 24), (60, 10), (20, 4), (1, 1)] {
            let drawn = lines(nodes, sums, &events, Screen { columns, rows });
            assert!(drawn.len() < rows.max(2), "{columns}x{rows}: {drawn:#?}");
            assert!(drawn.iter().all(|line| line.len() <= columns), "{columns}x{rows}: {drawn:#?}");
        }
        let drawn = lines(nodes, sums, &events, Screen { columns: 60, rows: 11 }).join(" ");
        assert!(
            drawn.contains(sums) && drawn.contains("event 7") && drawn.contains(KEYS.trim_end_matches('.')),
            "{drawn}"
        );
        assert!(!drawn.contains("event 3"), "the latest are shown: {drawn}");
    }
}
