//! An answer of lines of JSON, sent while it is made. It ends as whole only where its maker says so: a maker that is gone
//! without a word, by a panic for example, breaks the answer off.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Lines that may wait for the client.
const AHEAD: usize = 64;

/// The maker's end. Dropped without [`Lines::end`] or [`Lines::end_with`] it breaks the answer off.
pub(super) struct Lines {
    lines: mpsc::Sender<Bytes>,
    end: oneshot::Sender<Bytes>,
    idle: Duration,
}

/// Why a line was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// The client is gone.
    Gone,
    /// The client has read nothing for too long.
    Idle,
}

/// Lines and the answer that they make. A client that reads nothing for `idle` is given up.
pub(super) fn lines(idle: Duration) -> (Lines, Response) {
    let (lines, waiting) = mpsc::channel(AHEAD);
    let (end, ended) = oneshot::channel();
    let body = stream::unfold((waiting, Some(ended)), |(mut waiting, ended)| async {
        if let Some(line) = waiting.recv().await {
            return Some((Ok(line), (waiting, ended)));
        }
        match ended?.await {
            Ok(last) => Some((Ok(last), (waiting, None))),
            Err(_) => Some((Err(std::io::Error::other("the answer is not whole")), (waiting, None))),
        }
    });
    // Who packs an answer asks once more after its end.
    let body = body.fuse();
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    (Lines { lines, end, idle }, ([content_type], Body::from_stream(body)).into_response())
}

impl Lines {
    /// Sends a line, when there is room for it.
    pub(super) async fn send(&self, value: &impl Serialize) -> Result<(), NotTaken> {
        match timeout(self.idle, self.lines.send(line(value))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(NotTaken::Gone),
            Err(_) => Err(NotTaken::Idle),
        }
    }

    /// Sends a line if there is room for it now: who reads slowly misses it.
    pub(super) fn offer(&self, value: &impl Serialize) {
        let _ = self.lines.try_send(line(value));
    }

    /// The answer is whole.
    pub(super) fn end(self) {
        let _ = self.end.send(Bytes::new());
    }

    /// The answer ends with this line, which needs no room.
    pub(super) fn end_with(self, value: &impl Serialize) {
        let _ = self.end.send(line(value));
    }
}

fn line(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).expect("wire shapes are plain structs with string keys, which serialise");
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    async fn read(answer: Response) -> Result<Bytes, axum::Error> {
        axum::body::to_bytes(answer.into_body(), usize::MAX).await
    }

    #[tokio::test]
    async fn only_what_was_ended_is_whole() {
        let (one, answer) = lines(SOON);
        one.send(&1).await.unwrap();
        one.end_with(&2);
        assert_eq!(read(answer).await.unwrap(), "1\n2\n");
        let (one, answer) = lines(SOON);
        one.send(&1).await.unwrap();
        one.end();
        assert_eq!(read(answer).await.unwrap(), "1\n");
        let (one, answer) = lines(SOON);
        one.send(&1).await.unwrap();
        drop(one);
        assert!(read(answer).await.is_err());
    }

    #[tokio::test]
    async fn one_that_reads_nothing_is_given_up_and_told_so_later() {
        let (one, answer) = lines(SOON);
        for number in 0..AHEAD {
            one.send(&number).await.unwrap();
        }
        assert_eq!(one.send(&AHEAD).await, Err(NotTaken::Idle));
        one.end_with(&"not whole");
        let text = String::from_utf8(read(answer).await.unwrap().into()).unwrap();
        assert_eq!((text.lines().count(), text.lines().last()), (AHEAD + 1, Some("\"not whole\"")));
        let (one, answer) = lines(SOON);
        drop(answer);
        assert_eq!(one.send(&1).await, Err(NotTaken::Gone));
    }
}
