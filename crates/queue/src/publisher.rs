//! The seam for those who only bring something in: a queue here, or one on another node.

use std::{fmt, future::Future, sync::Arc};

use base::MessageId;

use crate::{BodyWriter, Pending, Publication, Published, Queue, QueueError, Room};

/// Where publications go. What returns is durable there.
pub trait Publish: fmt::Debug + Send + Sync + 'static {
    /// See [`Queue::publish`].
    fn publish(&self, batch: Vec<Publication>) -> Pending<'static, Result<Vec<Published>, QueueError>>;
    /// See [`Queue::body`].
    fn body(&self, message: MessageId, expect: usize) -> BodyWriter;
    /// See [`Publisher::takes`].
    fn takes(&self) -> Result<(), QueueError>;
}

impl Publish for Queue {
    fn publish(&self, batch: Vec<Publication>) -> Pending<'static, Result<Vec<Published>, QueueError>> {
        Box::pin(Self::publish(self, batch))
    }

    fn body(&self, message: MessageId, expect: usize) -> BodyWriter {
        Self::body(self, message, expect)
    }

    fn takes(&self) -> Result<(), QueueError> {
        if self.room() == Room::Full { Err(QueueError::NoSpace) } else { Ok(()) }
    }
}

/// Where publications go, whichever it is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher(Arc<dyn Publish>);

impl Publisher {
    /// A publisher that goes there.
    #[must_use]
    pub fn new(publish: Arc<dyn Publish>) -> Self {
        Self(publish)
    }

    /// Publishes a batch: all or nothing, durable when this returns.
    ///
    /// # Errors
    /// If a limit is broken, there is no room, or the queue is closed or out of reach.
    pub fn publish(
        &self,
        batch: Vec<Publication>,
    ) -> impl Future<Output = Result<Vec<Published>, QueueError>> + Send + use<> {
        self.0.publish(batch)
    }

    /// Takes a body in as a stream; `expect` is about how many bytes will come.
    #[must_use]
    pub fn body(&self, message: MessageId, expect: usize) -> BodyWriter {
        self.0.body(message, expect)
    }

    /// Whether what is begun now can be published, as far as is known.
    ///
    /// # Errors
    /// What publishing it would meet: [`QueueError::NoSpace`], or [`QueueError::Away`].
    pub fn takes(&self) -> Result<(), QueueError> {
        self.0.takes()
    }
}

impl From<Queue> for Publisher {
    fn from(queue: Queue) -> Self {
        Self::new(Arc::new(queue))
    }
}
