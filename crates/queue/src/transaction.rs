//! What is written as one: operations with their words and bodies.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    Body, BodySource, Conclusion, Publication, Reason, Recipients, Status,
    body::{BodyFile, checksum},
    op::{BodyRef, Conclude, Op, Origin, Publish, PublishedWork, Standing},
    recent::RecentContent,
};

/// Operations that are written and applied as one.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) ops: Vec<Op>,
    /// The words of all operations.
    pub(crate) head: Vec<u8>,
    /// The bodies of all publications that have theirs in memory.
    pub(crate) bodies: Vec<Bytes>,
    /// The bodies of the others.
    pub(crate) files: Vec<Arc<BodyFile>>,
}

impl Transaction {
    /// Adds a publication, and returns its contents as they are kept for the first attempt.
    pub(crate) fn publish(&mut self, publication: &Publication) -> RecentContent {
        let len = |bytes: &Bytes| u32::try_from(bytes.len()).expect("it was checked against MAX_HEADER");
        let start = self.head.len();
        let details: usize = publication.works.iter().map(|work| work.detail.len()).sum();
        self.head.reserve(publication.header.len() + details);
        self.head.extend_from_slice(&publication.header);
        let works = publication.works.iter().zip(0u16..).map(|(work, index)| {
            self.head.extend_from_slice(&work.detail);
            PublishedWork {
                index,
                lane: work.lane.to_string(),
                account: work.account.to_string(),
                needs: work.needs.iter().map(ToString::to_string).collect(),
                expires: work.expires,
                recipients: work.recipients,
                standing: Standing {
                    remaining: Recipients::first(work.recipients),
                    attempts: 0,
                    not_before: work.not_before,
                    priority: work.priority,
                    status: Status::Waiting,
                    reason: if work.not_before > publication.at { Reason::Scheduled } else { Reason::New },
                },
                detail_len: len(&work.detail),
                state_len: 0,
            }
        });
        let works: Vec<PublishedWork> = works.collect();
        let (body, source) = match &publication.body {
            Body::Empty => (BodyRef::Empty, BodySource::Memory(Bytes::new())),
            Body::Memory(bytes) => {
                self.bodies.push(bytes.clone());
                let len = u32::try_from(bytes.len()).expect("a body in memory is short");
                (BodyRef::Inline { len, crc: checksum(bytes) }, BodySource::Memory(bytes.clone()))
            }
            Body::File(file) => {
                self.files.push(file.clone());
                (
                    BodyRef::File { salt: file.salt, len: file.size, crc: file.crc },
                    BodySource::Stored(Arc::new(file.stored())),
                )
            }
        };
        let words = Bytes::copy_from_slice(&self.head[start..]);
        let publish = Publish {
            message: publication.message,
            kind: publication.kind,
            at: publication.at,
            repeat: publication.repeat,
            origin: Origin::New,
            header_len: len(&publication.header),
            body,
            works,
        };
        let words = publish.words(&words);
        self.ops.push(Op::Publish(publish));
        RecentContent { words: Mutex::new(words), body: source }
    }

    /// Adds a conclusion; what it publishes is added after it.
    pub(crate) fn conclude(&mut self, op: Conclude, conclusion: &Conclusion) {
        self.head.extend_from_slice(&conclusion.state[..op.state_len as usize]);
        self.head.extend_from_slice(&conclusion.record);
        self.ops.push(Op::Conclude(op));
    }
}
