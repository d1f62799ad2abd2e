//! A coordinator for tests: takes connections, keeps the requests and answers as it was told.

use super::client::Client;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

/// Listens on a free port of this machine until it is dropped.
pub(crate) struct FakeCoordinator {
    url: String,
    requests: Mutex<mpsc::UnboundedReceiver<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeCoordinator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeCoordinator {
    /// Gives every request the same answer.
    pub(crate) async fn answering(status: u16, body: &str) -> Self {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let answer = format!("{head}{body}");
        Self::start(Arc::new(move |_| answer.clone())).await
    }

    /// Streams, and closes without the last chunk.
    pub(crate) async fn cut_off(status: u16, body: &str) -> Self {
        let head = format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n");
        let answer = format!("{head}{:x}\r\n{body}\r\n", body.len());
        Self::start(Arc::new(move |_| answer.clone())).await
    }

    /// Gives one answer after the other: status and body. After the last there is none: the connection breaks.
    pub(crate) async fn in_turn(answers: Vec<(u16, &str)>) -> Self {
        let answers = answers.into_iter().map(|(status, body)| {
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        });
        let left = std::sync::Mutex::new(answers.collect::<VecDeque<_>>());
        let next = move |_: &str| left.lock().expect("nobody panics while taking an answer").pop_front();
        Self::start(Arc::new(move |request| next(request).unwrap_or_default())).await
    }

    /// Answers each path with its JSON.
    pub(crate) async fn routing(routes: Vec<(&'static str, serde_json::Value)>) -> Self {
        Self::start(Arc::new(move |request: &str| {
            let path = request.split(' ').nth(1).unwrap_or("");
            let found = routes.iter().find(|(route, _)| *route == path).map(|(_, body)| body.to_string());
            let (status, body) = match found {
                Some(body) => (200, body),
                None => (404, "{\"code\":\"route-not-found\",\"title\":\"Route not found\"}".to_owned()),
            };
            format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
        }))
        .await
    }

    /// A client that talks to it.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url, None).expect("the URL was made here")
    }

    /// The next request: its head, and as much of the body as came with it.
    pub(crate) async fn request(&self) -> String {
        self.requests.lock().await.recv().await.expect("the listener sends until it is dropped")
    }

    async fn start(answer: Arc<dyn Fn(&str) -> String + Send + Sync>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (sender, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(exchange(stream, Arc::clone(&answer), sender.clone()));
            }
        });
        Self { url, requests: Mutex::new(requests), task }
    }
}

/// One request and its answer. The body is read by its announced length, so that closing loses nothing.
async fn exchange(
    mut stream: TcpStream,
    answer: Arc<dyn Fn(&str) -> String + Send + Sync>,
    requests: mpsc::UnboundedSender<String>,
) {
    let mut request = Vec::new();
    loop {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&request);
        let Some(head_end) = text.find("\r\n\r\n") else {
            continue;
        };
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        if request.len() >= head_end + 4 + length {
            break;
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let bytes = answer(&text);
    // The test may be gone, or have stopped reading: both are its business.
    let _ = requests.send(text);
    let _ = stream.write_all(bytes.as_bytes()).await;
    let _ = stream.shutdown().await;
}
