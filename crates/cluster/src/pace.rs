//! What is said over a link in a hurry goes in fewer, larger pieces: each costs both sides wake-ups, a system call and a turn of the
//! connection, however little is in it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// The shortest time between two pieces. What comes after a pause goes at once.
const PACE: Duration = Duration::from_millis(1);

/// When the next piece may go.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Default for Pace {
    fn default() -> Self {
        let next = Instant::now();
        Self { next, sleep: Box::pin(tokio::time::sleep_until(next)) }
    }
}

impl Pace {
    /// Ready when a piece may go; then it is taken to have gone.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if now < self.next {
            if self.sleep.deadline() != self.next {
                self.sleep.as_mut().reset(self.next);
            }
            std::task::ready!(self.sleep.as_mut().poll(context));
        }
        self.next = Instant::now() + PACE;
        Poll::Ready(())
    }

    /// Returns when a piece may go.
    pub(crate) async fn turn(&mut self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }
}
