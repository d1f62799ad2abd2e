//! An import whose sender takes its time: what a coordinator does while one is under way can be looked at.

use crate::client::Client;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// For a coordinator to take an import.
const PATIENCE: Duration = Duration::from_secs(60);

/// An import whose lines come when the story wants.
#[derive(Debug)]
pub struct SlowImport {
    lines: mpsc::Sender<Bytes>,
    answer: JoinHandle<Result<Value, String>>,
    heard: watch::Receiver<Heard>,
}

/// What the coordinator has said so far.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// It has taken the import.
    answered: bool,
    /// So many entries are committed.
    written: u64,
}

impl SlowImport {
    /// Begins, with a connection of its own.
    pub fn begin(client: &Client, collection: &str) -> Self {
        let (lines, waiting) = mpsc::channel::<Bytes>(4);
        let frames = stream::unfold(waiting, |mut waiting| async {
            let line = waiting.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(line)), waiting))
        });
        let request = http::Request::post(format!("{}/v1/collections/{collection}/import", client.base()))
            .header("content-type", "application/x-ndjson");
        let request = match client.key() {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        };
        let request = request.body(StreamBody::new(Box::pin(frames))).expect("the parts above make a request");
        let (tell, heard) = watch::channel(Heard::default());
        let answer = tokio::spawn(async move {
            let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
            let answer = http.request(request).await.map_err(|error| error.to_string())?;
            tell.send_modify(|heard| heard.answered = answer.status() == 200);
            let mut body = answer.into_body().into_data_stream();
            let (mut begun, mut last) = (Vec::new(), Value::Null);
            while let Some(bytes) = body.next().await {
                begun.extend(bytes.map_err(|error| error.to_string())?);
                while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = begun.drain(..=end).collect();
                    last = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
                    tell.send_modify(|heard| heard.written = last["written"].as_u64().unwrap_or(heard.written));
                }
            }
            if last["done"] == true { Ok(last) } else { Err(format!("it ends with {last}")) }
        });
        Self { lines, answer, heard }
    }

    /// Sends some lines; nobody minds if the coordinator wants no more.
    pub async fn send(&self, lines: impl Into<Bytes>) {
        let _ = self.lines.send(lines.into()).await;
    }

    /// Until the coordinator has taken the import.
    pub async fn answered(&self) {
        let mut heard = self.heard.clone();
        let taken = heard.wait_for(|heard| heard.answered);
        drop(tokio::time::timeout(PATIENCE, taken).await.expect("an answer in time").expect("the import is taken"));
    }

    /// How many entries are committed, by what the coordinator said last.
    pub fn written(&self) -> u64 {
        self.heard.borrow().written
    }

    /// The last line of the answer, if it came to that.
    pub async fn end(self) -> Result<Value, String> {
        drop(self.lines);
        self.answer.await.expect("reading an answer does not panic")
    }
}
