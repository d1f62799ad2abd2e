//! Bodies that are answered before they were read. Closing a connection that a client still sends into can cost it the answer,
//! so the rest of such a body is taken and thrown away, within limits; and the answer says that the connection ends.

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, Response, header};
use futures::StreamExt;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// How long, and how much, the rest of a body is taken for; and how long its sender may be silent.
const REST_TIME: Duration = Duration::from_secs(10);
const REST_SILENCE: Duration = Duration::from_secs(1);
const REST_BYTES: usize = 256 * 1024 * 1024;
/// The same where the client was not let in: nobody without a key has a right to send much.
const DENIED_REST_BYTES: usize = 1024 * 1024;
/// An unread body up to this size comes with its headers: the connection can go on after it.
const SMALL_BYTES: u64 = 64 * 1024;

/// How far a body was read.
pub(super) struct Reading {
    begun: AtomicBool,
    ended: AtomicBool,
    denied: AtomicBool,
    small: bool,
}

/// Watches how the request's body is read, and takes its rest when nobody wants it any more.
pub(super) fn watch(request: Request) -> (Request, Arc<Reading>) {
    // Who waits to be asked for its body does not send it into a connection that answers otherwise.
    let waits = request.headers().contains_key(header::EXPECT);
    let small = request.body().size_hint().upper().is_some_and(|bytes| bytes <= SMALL_BYTES);
    let ended = AtomicBool::new(request.body().is_end_stream());
    let reading = Arc::new(Reading { begun: AtomicBool::new(false), ended, denied: AtomicBool::new(false), small });
    let watched = |body| Body::new(Watched { body, reading: reading.clone(), waits });
    let request = request.map(watched);
    (request, reading)
}

impl Reading {
    /// Takes little of the rest: the client was not let in.
    pub(super) fn deny(&self) {
        self.denied.store(true, Ordering::Relaxed);
    }

    /// Says in an early answer that the connection ends, if it does.
    pub(super) fn tell<B>(&self, response: &mut Response<B>) {
        let refused = response.status().is_client_error() || response.status().is_server_error();
        let left = !self.ended.load(Ordering::Relaxed) && (self.begun.load(Ordering::Relaxed) || !self.small);
        if refused && left {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

struct Watched {
    body: Body,
    reading: Arc<Reading>,
    waits: bool,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.reading.begun.store(true, Ordering::Relaxed);
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.reading.ended.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Reading { begun, ended, denied, .. } = &*self.reading;
        if ended.load(Ordering::Relaxed) || (self.waits && !begun.load(Ordering::Relaxed)) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let body = std::mem::take(&mut self.body);
        let most = if denied.load(Ordering::Relaxed) { DENIED_REST_BYTES } else { REST_BYTES };
        runtime.spawn(timeout(REST_TIME, take_rest(body, most)));
    }
}

async fn take_rest(body: Body, most: usize) {
    let mut rest = body.into_data_stream();
    let mut taken = 0;
    while let Ok(Some(Ok(bytes))) = timeout(REST_SILENCE, rest.next()).await {
        taken += bytes.len();
        if taken > most {
            return;
        }
    }
}
