//! Which message's commands may go out now.

use super::{Client, Envelope, Exchange, Leaving, State};
use crate::Extension;

impl Client {
    /// Puts into the output what may be sent: one message when none is under way, and one more
    /// behind the end of its text if the host has PIPELINING.
    pub(super) fn feed(&mut self) {
        if self.state != State::Ready {
            return;
        }
        while self.current.is_none()
            && let Some(exchange) = self.next()
        {
            self.current = Some(exchange);
        }
        let pipelining = self.capabilities.offers(Extension::Pipelining);
        while pipelining
            && self.ahead.is_none()
            && self.current.as_ref().is_some_and(Exchange::is_body_sent)
            && let Some(exchange) = self.next()
        {
            self.ahead = Some(exchange);
        }
        if self.current.is_none() && self.leaving == Leaving::WhenDone {
            self.output.extend_from_slice(b"QUIT\r\n");
            self.state = State::Quitting;
        }
    }

    /// Begins the next message that the host can carry; the others are done.
    fn next(&mut self) -> Option<Exchange> {
        loop {
            let exchange = Exchange::new(self.waiting.pop_front()?, self.capabilities);
            if exchange.is_settled() {
                self.done.push_back(exchange.finished());
            } else {
                // With a text under way the host holds no envelope once it has answered that.
                let envelope = if self.current.is_some() { Envelope::Empty } else { self.envelope };
                return Some(exchange.begin(envelope, &mut self.output));
            }
        }
    }
}
