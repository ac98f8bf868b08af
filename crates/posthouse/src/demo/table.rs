//! The live table for a terminal: drawn over itself again and again.

use std::collections::VecDeque;

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
    /// Enter has moved everything up by a line.
    pub(super) fn typed(&mut self) {
        self.drawn += 1;
    }

    /// The table and what stands below it, with what moves the cursor back over the last one.
    pub(super) fn draw(&mut self, scene: &mut Scene) -> String {
        self.events.extend(scene.events());
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
        let mut text = format!("{}\n{}\n\n", nodes(scene).trim_end(), account(&scene.sums(), scene.lost()));
        for event in &self.events {
            text += &format!("{:6.1}s  {}\n", event.seconds, event.what);
        }
        text += "\nEnter kills a worker; q and Enter, or Ctrl-C, ends the demo.\n";
        let back = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        self.drawn = text.lines().count();
        back + &text
    }
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
