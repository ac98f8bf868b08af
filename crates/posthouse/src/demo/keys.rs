//! What is typed: keys, each as it is pressed.

use std::{
    future,
    io::{self, IsTerminal, Read as _, stdin, stdout},
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
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
pub(super) struct Keys(Option<Typed>);

#[derive(Debug)]
struct Typed {
    keys: mpsc::Receiver<Key>,
    _terminal: EachKey,
}

/// Keys that may wait; who types faster is not read.
const WAITING: usize = 16;
/// The longest sequence that one key sends.
const LONGEST: usize = 32;

impl Keys {
    /// Reads from now on, if a person sits before this.
    pub(super) fn start(form: Form) -> Self {
        if form == Form::Json || !stdin().is_terminal() || !stdout().is_terminal() {
            return Self(None);
        }
        let Ok(terminal) = EachKey::begin() else { return Self(None) };
        let (pressed, keys) = mpsc::channel(WAITING);
        // It ends with the process: nothing wakes one who waits for a key.
        thread::spawn(move || {
            let mut read = [0; LONGEST];
            // None: the terminal has been closed.
            while let Ok(len @ 1..) = stdin().read(&mut read) {
                if key(&read[..len]).is_some_and(|key| pressed.blocking_send(key).is_err()) {
                    return;
                }
            }
        });
        Self(Some(Typed { keys, _terminal: terminal }))
    }

    /// Whether somebody can press a key.
    pub(super) fn are_read(&self) -> bool {
        self.0.is_some()
    }

    /// The next one; waits forever where nobody types.
    pub(super) async fn next(&mut self) -> Key {
        match &mut self.0 {
            Some(typed) => match typed.keys.recv().await {
                Some(key) => key,
                None => future::pending().await,
            },
            None => future::pending().await,
        }
    }
}

/// What was pressed, of all that came at once. Keys without a letter send several bytes, the first of them Escape.
fn key(sent: &[u8]) -> Option<Key> {
    const ESCAPE: u8 = 0x1b;
    const END_OF_INPUT: u8 = 4;
    if sent[0] != ESCAPE && sent.iter().any(|byte| byte.eq_ignore_ascii_case(&b'q')) {
        return Some(Key::End);
    }
    (sent != [END_OF_INPUT]).then_some(Key::Kill)
}

/// A terminal that gives each key as it is pressed and does not show it, until this is dropped; Ctrl-C stays what it is.
#[derive(Debug)]
struct EachKey(Termios);

impl EachKey {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut each = before.clone();
        each.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        // A read returns with the first byte, whenever that comes.
        each.special_codes[SpecialCodeIndex::VMIN] = 1;
        each.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &each)?;
        Ok(Self(before))
    }
}

impl Drop for EachKey {
    fn drop(&mut self) {
        // A terminal that is closed by now needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}
