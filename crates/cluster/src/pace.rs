//! What is said over a link in a hurry goes in fewer, larger pieces: each costs both sides wake-ups, a system call and a turn of the
//! connection, however little is in it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
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
    turn: Turn,
}

/// Whether those who have more to say have had their turn: what comes of one sync or one answer comes from many tasks, and goes
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Theirs,
    Ours,
}

impl Default for Pace {
    fn default() -> Self {
        let next = Instant::now();
        Self { next, sleep: Box::pin(tokio::time::sleep_until(next)), turn: Turn::Theirs }
    }
}

impl Pace {
    /// Ready when a piece may go; then it is taken to have gone.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() < self.next {
            if self.sleep.deadline() != self.next {
                self.sleep.as_mut().reset(self.next);
            }
            ready!(self.sleep.as_mut().poll(context));
        }
        if std::mem::replace(&mut self.turn, Turn::Ours) == Turn::Theirs {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.turn = Turn::Theirs;
        self.next = Instant::now() + PACE;
        Poll::Ready(())
    }

    /// Returns when a piece may go.
    pub(crate) async fn turn(&mut self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test]
    async fn the_first_goes_once_others_had_their_turn_and_the_next_ones_at_a_pace() {
        let mut pace = Pace::default();
        let mut context = Context::from_waker(Waker::noop());
        let start = Instant::now();
        assert_eq!(pace.poll(&mut context), Poll::Pending);
        assert_eq!(pace.poll(&mut context), Poll::Ready(()));
        for _ in 0..10 {
            pace.turn().await;
        }
        assert!(start.elapsed() >= PACE * 10, "{:?}", start.elapsed());
        tokio::time::sleep(PACE * 2).await;
        assert_eq!(pace.poll(&mut context), Poll::Pending);
        assert_eq!(pace.poll(&mut context), Poll::Ready(()), "nothing was said for a while");
    }
}
