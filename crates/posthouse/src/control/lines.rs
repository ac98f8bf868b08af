//! An answer that comes line by line, while what it tells of goes on.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde::Serialize;
use tokio::sync::mpsc;

/// Values that come, each a line of JSON.
#[derive(Debug)]
pub(super) struct Lines<T>(pub(super) mpsc::Receiver<T>);

impl<T: Serialize> Body for Lines<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|value| {
            value.map(|value| {
                let mut line =
                    serde_json::to_vec(&value).expect("our shapes have text keys and no failing parts");
                line.push(b'\n');
                Ok(Frame::data(line.into()))
            })
        })
    }
}
