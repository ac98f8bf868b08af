//! The text of a message: what of it the driver sees, and what its end is answered.

use std::mem;

use super::{
    Chunk, Event, Phase, Question, Server, State,
    command::Place,
    data::{Close, Framing, Step},
};

/// Where text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Data,
    Chunk(Chunk),
}

impl Source {
    pub(super) fn framing(self) -> Framing {
        match self {
            Self::Data => Framing::Dots,
            Self::Chunk(_) => Framing::Counted,
        }
    }
}

impl Server {
    /// Takes text after DATA.
    pub(super) fn data<'i>(&mut self, input: &mut &'i [u8]) -> Option<Event<'i>> {
        let Phase::Body(scanner) = &mut self.phase else {
            self.state = State::Command;
            return None;
        };
        let step = scanner.scan(input, &self.config.limits);
        if let Some(refused) = self.flaw() {
            return Some(refused);
        }
        match step {
            Step::Text(text) if self.verdict.is_none() => Some(Event::Body(text)),
            Step::Text(_) => None,
            Step::Starved => Some(Event::NeedInput),
            Step::End => self.end(),
        }
    }

    /// Takes text of a chunk.
    pub(super) fn chunk<'i>(&mut self, chunk: Chunk, input: &mut &'i [u8]) -> Option<Event<'i>> {
        if chunk.left == 0 {
            return self.chunk_end(chunk.place);
        }
        if input.is_empty() {
            return Some(Event::NeedInput);
        }
        let len = usize::try_from(chunk.left).map_or(input.len(), |left| left.min(input.len()));
        let (mut text, rest) = input.split_at(len);
        *input = rest;
        self.state = State::Body(Source::Chunk(Chunk { left: chunk.left - len as u64, ..chunk }));
        let (None, Phase::Body(scanner)) = (&self.verdict, &mut self.phase) else { return None };
        // Without dots to look for, the scanner takes all in one step.
        let step = scanner.scan(&mut text, &self.config.limits);
        if let Some(refused) = self.flaw() {
            return Some(refused);
        }
        match step {
            Step::Text(text) => Some(Event::Body(text)),
            Step::Starved | Step::End => None,
        }
    }

    fn chunk_end(&mut self, place: Place) -> Option<Event<'static>> {
        if self.verdict.is_some() {
            return self.end();
        }
        match (place, &mut self.phase) {
            (Place::Last, Phase::Body(scanner)) => {
                let close = scanner.close(&self.config.limits);
                if let Some(refused) = self.flaw() {
                    return Some(refused);
                }
                match close {
                    Close::LineEndAdded => Some(Event::Body(b"\r\n")),
                    Close::Complete => self.end(),
                }
            }
            _ => {
                self.state = State::Command;
                self.say_fixed(b"250 2.0.0 chunk ok\r\n");
                None
            }
        }
    }

    /// Refuses the message at its first flaw.
    fn flaw(&mut self) -> Option<Event<'static>> {
        let Phase::Body(scanner) = &self.phase else { return None };
        let reply = scanner.flaw().filter(|_| self.verdict.is_none())?.reply();
        self.verdict = Some(Box::new(reply.clone()));
        Some(Event::BodyRefused(reply))
    }

    /// The text is over, in good order or swallowed.
    fn end(&mut self) -> Option<Event<'static>> {
        let phase = mem::replace(&mut self.phase, Phase::Idle);
        if let Some(reply) = self.verdict.take() {
            self.state = State::Command;
            self.answer(&reply);
            self.end_if_too_many_errors();
            return None;
        }
        let Phase::Body(scanner) = phase else { return None };
        self.state = State::Asked(Question::Finish);
        Some(Event::BodyEnd(scanner.facts()))
    }
}
