//! Sends rows to a coordinator and reads its progress lines at the same time.
//!
//! Memory is bounded: a thread reads and packs chunks, a short queue holds them, and both wait when the coordinator is
//! slow. The answer is read while the body is still being sent, because it says how far the coordinator is.

use super::rows::{Rows, RowsError};
use crate::cli::client::{Client, RequestBody};
use crate::cli::error::CommandError;
use crate::cli::path;
use atoll_proto::CollectionName;
use atoll_proto::entry::ImportProgress;
use bytes::{Bytes, BytesMut};
use futures::stream;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;

/// Chunks that wait to be sent.
const QUEUE: usize = 4;
/// Longest progress line; the last one carries up to 20 problems.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// What became of an upload.
#[derive(Debug)]
pub(crate) struct Uploaded {
    /// The coordinator's last line.
    pub(crate) last: ImportProgress,
    /// Vectors that no entry took.
    pub(crate) vectors_left: u64,
}

/// Sends all rows; `progress` is called for each line of the answer.
pub(crate) async fn upload(
    client: &Client,
    collection: &CollectionName,
    rows: Rows,
    progress: impl FnMut(&ImportProgress),
) -> Result<Uploaded, CommandError> {
    let (sender, mut chunks) = mpsc::channel(QUEUE);
    let failure = Arc::new(OnceLock::new());
    let reading = tokio::task::spawn_blocking({
        let failure = Arc::clone(&failure);
        move || read_all(rows, &sender, &failure)
    });
    let body: RequestBody = StreamBody::new(stream::poll_fn(move |context| chunks.poll_recv(context))).boxed_unsync();
    let to = path::collection(collection, "/import");
    let outcome = match client.stream(Method::POST, &to, Some("application/x-ndjson"), body).await {
        Ok(response) => follow(client, response.into_body(), progress).await,
        Err(error) => Err(error),
    };
    // Unreadable input breaks the request off: then the input is what the user must hear of.
    if let Some(error) = failure.get() {
        return Err(CommandError::failed(error));
    }
    let last = outcome?;
    // The answer is complete, so the input was read to its end, or the coordinator wants no more of it.
    let vectors_left = if reading.is_finished() || last.problem.is_none() { reading.await.unwrap_or(0) } else { 0 };
    Ok(Uploaded { last, vectors_left })
}

/// Runs on a thread of its own, because files and standard input block. Gives the number of vectors that no entry took.
fn read_all(mut rows: Rows, to: &mpsc::Sender<Result<Frame<Bytes>, io::Error>>, failure: &OnceLock<RowsError>) -> u64 {
    loop {
        match rows.next_chunk() {
            Ok(Some(chunk)) => {
                if to.blocking_send(Ok(Frame::data(chunk))).is_err() {
                    // The coordinator wants no more; its answer says why.
                    return 0;
                }
            }
            Ok(None) => return rows.vectors_left(),
            Err(error) => {
                // Told first, so that it is known when the request is seen to break.
                failure.get_or_init(|| error);
                // An error in the body breaks the request off, so that the coordinator does not take it for whole.
                let _ = to.blocking_send(Err(io::Error::other("the input ended early")));
                return 0;
            }
        }
    }
}

async fn follow(
    client: &Client,
    mut body: Incoming,
    mut progress: impl FnMut(&ImportProgress),
) -> Result<ImportProgress, CommandError> {
    let mut waiting = BytesMut::new();
    let mut last: Option<ImportProgress> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| client.broken(error))?.into_data() else {
            continue;
        };
        waiting.extend_from_slice(&data);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line = waiting.split_to(end + 1);
            if !line.iter().all(u8::is_ascii_whitespace) {
                let parsed = parse(client, &line)?;
                progress(&parsed);
                last = Some(parsed);
            }
        }
        if waiting.len() > LINE_BYTES_MAX {
            return Err(client.broken("a progress line without an end"));
        }
    }
    if !waiting.iter().all(u8::is_ascii_whitespace) {
        last = Some(parse(client, &waiting)?);
    }
    match last {
        Some(last) if last.done => Ok(last),
        Some(last) => Err(CommandError::Failed(format!(
            "the answer was cut off after {} entries were written; import again, what is there already stays as it is",
            last.written
        ))),
        None => Err(client.broken("the answer was empty")),
    }
}

fn parse(client: &Client, line: &[u8]) -> Result<ImportProgress, CommandError> {
    serde_json::from_slice(line).map_err(|source| CommandError::Foreign {
        url: client.base().to_owned(),
        status: 200,
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Cursor;
    use std::time::Duration;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;
    use tokio::net::tcp::OwnedReadHalf;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Reads one chunk of a chunked body: its lines, or none at its end.
    async fn chunk_lines(reader: &mut BufReader<OwnedReadHalf>) -> Option<usize> {
        let mut size = String::new();
        reader.read_line(&mut size).await.unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).await.unwrap();
        (size > 0).then(|| chunk.iter().filter(|byte| **byte == b'\n').count() - 1)
    }

    /// Answers each chunk of the request with a progress line before it reads the next one; ends with `last`, if any.
    async fn coordinator(listener: TcpListener, last: Option<&'static str>) -> u64 {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut reader = BufReader::new(read);
        let mut line = String::new();
        while reader.read_line(&mut line).await.unwrap() > 2 {
            line.clear();
        }
        write.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let mut written = 0;
        while let Some(lines) = chunk_lines(&mut reader).await {
            written += lines as u64;
            let text = format!("{{\"done\":false,\"written\":{written},\"failed\":0}}\n");
            write.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
        }
        if let Some(text) = last {
            write.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await.unwrap();
        }
        write.write_all(b"0\r\n\r\n").await.unwrap();
        written
    }

    /// An input that gives its next piece only when it is told to.
    struct OnDemand {
        pieces: std::sync::mpsc::Receiver<Vec<u8>>,
        piece: Cursor<Vec<u8>>,
    }

    impl io::Read for OnDemand {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = io::Read::read(&mut self.piece, buffer)?;
            if read > 0 {
                return Ok(read);
            }
            match self.pieces.recv() {
                Ok(piece) => {
                    self.piece = Cursor::new(piece);
                    io::Read::read(&mut self.piece, buffer)
                }
                Err(_) => Ok(0),
            }
        }
    }

    async fn listener() -> (TcpListener, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (listener, Client::new(&url, None).unwrap())
    }

    fn large_piece() -> Vec<u8> {
        format!("{{\"value\":\"{}\"}}\n", "x".repeat(999_000)).into_bytes()
    }

    #[tokio::test]
    async fn progress_is_read_while_the_body_is_being_sent() {
        let (listener, client) = listener().await;
        let server = tokio::spawn(coordinator(listener, Some("{\"done\":true,\"written\":3,\"failed\":0}\n")));
        let (more, pieces) = std::sync::mpsc::channel();
        more.send(large_piece()).unwrap();
        let mut more = Some(more);
        let rows = Rows::new(OnDemand { pieces, piece: Cursor::new(Vec::new()) }).unwrap();
        let mut seen = Vec::new();
        // The next piece of input exists only after the progress line for the piece before was seen: if answers were read
        // after the body, this would never end.
        let collection = CollectionName::parse("c").unwrap();
        let done = upload(&client, &collection, rows, |line| {
            seen.push(line.written);
            match line.written {
                1 | 2 => more.as_ref().unwrap().send(large_piece()).unwrap(),
                _ => more = None,
            }
        });
        let done = tokio::time::timeout(PATIENCE, done).await.expect("in time").unwrap();
        assert_eq!((done.last.written, done.last.done), (3, true));
        assert_eq!(server.await.unwrap(), 3);
        assert_eq!(seen, [1, 2, 3, 3]);
    }

    #[tokio::test]
    async fn an_answer_without_its_last_line_is_an_error() {
        let (listener, client) = listener().await;
        let server = tokio::spawn(coordinator(listener, None));
        let rows = Rows::new(Cursor::new("{}\n{}\n")).unwrap();
        let error = upload(&client, &CollectionName::parse("c").unwrap(), rows, |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("cut off after 2 entries"), "{error}");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn input_that_cannot_be_read_is_what_the_user_hears_of() {
        let (listener, client) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut sink = Vec::new();
            // Breaks off without an end: the chunked body is never complete.
            let _ = stream.read_to_end(&mut sink).await;
            sink
        });
        let rows = Rows::new(io::repeat(b'x')).unwrap();
        let collection = CollectionName::parse("c").unwrap();
        let sent = upload(&client, &collection, rows, |_| {});
        let error = tokio::time::timeout(PATIENCE, sent).await.expect("in time").unwrap_err();
        assert!(error.to_string().contains("entry 1 is longer"), "{error}");
        assert!(!server.await.unwrap().ends_with(b"0\r\n\r\n"));
    }
}
