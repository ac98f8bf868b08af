//! Tales read back from the segments, for a reader that was away or fell behind.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Shared,
    frame::{HEADER, Header, decode_front},
    segment::{DATA_START, Segment},
};
use crate::{
    QueueError,
    feed::{Archive, Tale, tell},
};

impl Archive for Shared {
    fn read(&self, after: u64, until: u64, max: usize) -> Result<(Vec<Tale>, u64), QueueError> {
        let segments: Vec<Arc<Segment>> = self.segments.lock().values().cloned().collect();
        let mut tales = Vec::new();
        let mut at = after;
        for segment in segments {
            let last = segment.sealed.lock().map_or(u64::MAX, |sealed| sealed.last);
            if last <= at || segment.after >= until {
                continue;
            }
            at = read_segment(&segment, at, until.min(last), max, &mut tales)?;
            if tales.len() >= max {
                return Ok((tales, at));
            }
        }
        Ok((tales, until))
    }

    fn confirmed(&self, sequence: u64) {
        self.confirmed.fetch_max(sequence, Ordering::SeqCst);
        self.collector.wake();
    }
}

/// Tells what the frames after `after` and up to `until` say; returns the last one read.
fn read_segment(
    segment: &Segment,
    after: u64,
    until: u64,
    max: usize,
    tales: &mut Vec<Tale>,
) -> Result<u64, QueueError> {
    let mut at = DATA_START as u64;
    let mut sequence = segment.after.max(after);
    while tales.len() < max {
        let mut start = [0; HEADER];
        if segment.file.read_at(&mut start, at)? < HEADER {
            break;
        }
        let Some(ops_len) = Header::ops_len_of(segment.nonce, &start) else { break };
        let front = segment.file.read_exact_at(HEADER + ops_len, at)?;
        let Some((header, _)) = Header::decode(segment.nonce, &front) else { break };
        if header.sequence > until {
            break;
        }
        if header.sequence > after {
            let front = segment.file.read_exact_at(header.front_len(), at)?;
            if let Some((_, parts)) = decode_front(segment.nonce, &front.into()) {
                for (op, words, _) in parts {
                    tell(header.sequence, &op, &words, tales);
                }
            }
            sequence = header.sequence;
        }
        at += header.frame_len() as u64;
    }
    Ok(if tales.len() < max { until } else { sequence })
}
