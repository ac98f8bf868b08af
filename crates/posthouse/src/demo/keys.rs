//! What is typed: lines, since a terminal gives nothing before Enter.

use std::{
    future,
    io::{IsTerminal, stdin, stdout},
    thread,
};

use tokio::sync::mpsc;

use super::Form;

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A worker is to be killed.
    Kill,
    /// It is enough.
    End,
}

/// Reads what is typed.
#[derive(Debug)]
pub(super) struct Keys(Option<mpsc::Receiver<Key>>);

/// Lines that may wait; who types faster is not read.
const WAITING: usize = 16;

impl Keys {
    /// Reads from now on, if a person sits before this.
    pub(super) fn start(form: Form) -> Self {
        if form == Form::Json || !stdin().is_terminal() || !stdout().is_terminal() {
            return Self(None);
        }
        let (keys, typed) = mpsc::channel(WAITING);
        // It ends with the process: nothing wakes one who waits for a line.
        thread::spawn(move || {
            for line in stdin().lines().map_while(Result::ok) {
                if keys.blocking_send(key(&line)).is_err() {
                    return;
                }
            }
        });
        Self(Some(typed))
    }

    /// Whether somebody can press a key.
    pub(super) fn are_read(&self) -> bool {
        self.0.is_some()
    }

    /// The next one; waits forever where nobody types.
    pub(super) async fn next(&mut self) -> Key {
        match &mut self.0 {
            Some(typed) => match typed.recv().await {
                Some(key) => key,
                // The terminal has been closed for reading (Ctrl-D).
                None => future::pending().await,
            },
            None => future::pending().await,
        }
    }
}

fn key(line: &str) -> Key {
    if line.trim().eq_ignore_ascii_case("q") { Key::End } else { Key::Kill }
}
