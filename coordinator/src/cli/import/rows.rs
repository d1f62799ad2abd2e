//! The lines of an import as the API takes them: read, brought into shape, joined with their vectors, packed into chunks.

use super::f16bin::F16Rows;
use atoll_proto::limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// A chunk is sent when it has this many bytes.
const CHUNK_BYTES: usize = 256 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// What the server gives and does not take: so that what was exported can be imported.
const SERVERS_OWN: [&str; 3] = ["version", "created_at", "updated_at"];

/// Changes an entry before it is sent.
pub(crate) type Edit = Box<dyn FnMut(&mut Map<String, Value>) + Send>;

/// The entries of a file, as chunks of NDJSON.
pub(crate) struct Rows {
    lines: Box<dyn BufRead + Send>,
    vectors: Option<F16Rows>,
    edit: Option<Edit>,
    left: Option<u64>,
    told_to_end: Option<Box<dyn Fn() -> bool + Send>>,
    /// Entries read so far, also those that were skipped.
    entries: u64,
    ended: bool,
}

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsError {
    /// The file can't be read.
    #[error("entry {entry}: the input cannot be read")]
    Read {
        /// Which entry, from 1.
        entry: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A line beyond the limit: hardly an entry.
    #[error("entry {entry} is longer than the {} bytes that are allowed", limits::IMPORT_LINE_BYTES)]
    TooLong {
        /// Which entry, from 1.
        entry: u64,
    },
    /// Entries and vectors don't belong together.
    #[error("there are {vectors} vectors, but more entries: the files do not belong together")]
    TooFewVectors {
        /// Vectors in the file.
        vectors: u64,
    },
}

impl Rows {
    /// Opens a file, gzipped or not; `-` is standard input.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") { Self::new(io::stdin()) } else { Self::new(File::open(path)?) }
    }

    /// Reads lines, gzipped or not.
    pub(crate) fn new(input: impl Read + Send + 'static) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(CHUNK_BYTES, input);
        // The first read gives at least two bytes of any gzip file that comes from a disk or a pipe's first write.
        let lines: Box<dyn BufRead + Send> = if input.fill_buf()?.starts_with(&GZIP_MAGIC) {
            Box::new(BufReader::with_capacity(CHUNK_BYTES, MultiGzDecoder::new(input)))
        } else {
            Box::new(input)
        };
        Ok(Self { lines, vectors: None, edit: None, left: None, told_to_end: None, entries: 0, ended: false })
    }

    /// Gives each entry the vector of the same place.
    pub(crate) fn with_vectors(mut self, vectors: F16Rows) -> Self {
        self.vectors = Some(vectors);
        self
    }

    /// Changes each entry before it is sent, after whatever changes it already.
    pub(crate) fn with_edit(mut self, mut edit: impl FnMut(&mut Map<String, Value>) + Send + 'static) -> Self {
        self.edit = Some(match self.edit.take() {
            Some(mut first) => Box::new(move |entry| {
                first(entry);
                edit(entry);
            }),
            None => Box::new(edit),
        });
        self
    }

    /// Ends early as soon as it is told to.
    pub(crate) fn until(mut self, told: impl Fn() -> bool + Send + 'static) -> Self {
        self.told_to_end = Some(Box::new(told));
        self
    }

    /// Ends after this many entries.
    pub(crate) fn with_limit(mut self, entries: u64) -> Self {
        self.left = Some(entries);
        self
    }

    /// Leaves the first entries out, and their vectors.
    pub(crate) fn skip(&mut self, entries: u64) -> Result<(), RowsError> {
        for _ in 0..entries {
            if self.next_line()?.is_none() {
                break;
            }
        }
        if let Some(vectors) = &mut self.vectors {
            let entry = self.entries;
            vectors.skip(entries).map_err(|source| RowsError::Read { entry, source })?;
        }
        Ok(())
    }

    /// Entries to come, where the vectors tell.
    pub(crate) fn expected(&self) -> Option<u64> {
        match (&self.vectors, self.left) {
            (Some(vectors), Some(left)) => Some(vectors.left().min(left)),
            (Some(vectors), None) => Some(vectors.left()),
            (None, left) => left,
        }
    }

    /// Vectors that no entry took.
    pub(crate) fn vectors_left(&self) -> u64 {
        self.vectors.as_ref().map_or(0, F16Rows::left)
    }

    /// The next entries as NDJSON; none after the last.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Bytes>, RowsError> {
        self.ended |= self.told_to_end.as_ref().is_some_and(|told| told());
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES && !self.ended && self.left != Some(0) {
            let Some(line) = self.next_line()? else {
                self.ended = true;
                break;
            };
            self.left = self.left.map(|left| left - 1);
            self.append(line, &mut chunk)?;
        }
        Ok((!chunk.is_empty()).then(|| chunk.into()))
    }

    fn append(&mut self, line: Vec<u8>, chunk: &mut Vec<u8>) -> Result<(), RowsError> {
        let vector = self.next_vector()?;
        match serde_json::from_slice::<Map<String, Value>>(&line) {
            Ok(mut entry) => {
                bring_into_shape(&mut entry);
                if let Some(vector) = vector {
                    entry.insert("vector".to_owned(), json!({ "b64": vector }));
                }
                if let Some(edit) = &mut self.edit {
                    edit(&mut entry);
                }
                serde_json::to_writer(&mut *chunk, &entry).expect("a JSON value serialises into memory");
            }
            // The coordinator says what is wrong with it, under its number.
            Err(_) => chunk.extend(&line),
        }
        chunk.push(b'\n');
        Ok(())
    }

    fn next_vector(&mut self) -> Result<Option<String>, RowsError> {
        let entry = self.entries;
        let Some(vectors) = &mut self.vectors else {
            return Ok(None);
        };
        match vectors.next_row().map_err(|source| RowsError::Read { entry, source })? {
            Some(row) => {
                let bytes: Vec<u8> = row.iter().flat_map(|number| number.to_le_bytes()).collect();
                Ok(Some(STANDARD.encode(bytes)))
            }
            None => Err(RowsError::TooFewVectors { vectors: entry - 1 }),
        }
    }

    /// The next line that is not blank, without its end.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, RowsError> {
        loop {
            let entry = self.entries + 1;
            let mut line = Vec::new();
            let limit = limits::IMPORT_LINE_BYTES as u64 + 1;
            let read = self.lines.by_ref().take(limit).read_until(b'\n', &mut line);
            if read.map_err(|source| RowsError::Read { entry, source })? == 0 {
                return Ok(None);
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            } else if line.len() as u64 == limit {
                return Err(RowsError::TooLong { entry });
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                self.entries = entry;
                return Ok(Some(line));
            }
        }
    }
}

/// An entry of other making as the API takes it: `text` is the value, null is absent, the server's own fields go.
fn bring_into_shape(entry: &mut Map<String, Value>) {
    entry.retain(|name, value| !value.is_null() && !SERVERS_OWN.contains(&name.as_str()));
    if !entry.contains_key("value")
        && let Some(text) = entry.remove("text")
    {
        entry.insert("value".to_owned(), text);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use atoll_proto::entry::NewEntry;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::{Cursor, Write};

    fn all(mut rows: Rows) -> Result<String, RowsError> {
        let mut text = String::new();
        while let Some(chunk) = rows.next_chunk()? {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        Ok(text)
    }

    fn rows(text: &str) -> Rows {
        Rows::new(Cursor::new(text.to_owned())).unwrap()
    }

    fn vectors(rows: u16) -> F16Rows {
        let mut bytes = Vec::new();
        bytes.extend(u32::from(rows).to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        for row in 0..rows {
            bytes.extend(half::f16::from_f32(f32::from(row) + 0.5).to_le_bytes());
        }
        let length = bytes.len() as u64;
        F16Rows::new(Box::new(Cursor::new(bytes)), length).unwrap()
    }

    #[test]
    fn text_becomes_the_value_and_what_the_server_owns_goes() {
        let line =
            "{\"namespace\":\"n\",\"key\":\"k\",\"text\":\"t\",\"tags\":null,\"version\":3,\"created_at\":\"x\"}";
        let sent = all(rows(line)).unwrap();
        let entry: NewEntry = serde_json::from_str(&sent).unwrap();
        assert_eq!(entry.value.as_deref(), Some("t"));
        let both = all(rows("{\"value\":\"v\",\"text\":\"t\"}")).unwrap();
        assert!(both.contains("\"text\":\"t\"") && both.contains("\"value\":\"v\""));
    }

    #[test]
    fn vectors_go_with_the_entry_of_their_place() {
        let text = "{\"key\":\"a\"}\n\n{\"key\":\"b\"}\r\n{\"key\":\"c\"}";
        let mut rows = rows(text).with_vectors(vectors(3)).with_limit(1);
        rows.skip(1).unwrap();
        assert_eq!(rows.expected(), Some(1));
        let sent = all(rows).unwrap();
        let entry: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(entry["key"], "b");
        assert_eq!(entry["vector"]["b64"], STANDARD.encode(1.5_f32.to_le_bytes()));
    }

    #[test]
    fn more_entries_than_vectors_is_an_error_and_more_vectors_can_be_seen() {
        let text = "{}\n{}\n{}\n";
        let error = all(rows(text).with_vectors(vectors(2))).unwrap_err();
        assert!(matches!(error, RowsError::TooFewVectors { vectors: 2 }), "{error}");
        let mut rows = rows(text).with_vectors(vectors(5));
        while rows.next_chunk().unwrap().is_some() {}
        assert_eq!(rows.vectors_left(), 2);
    }

    #[test]
    fn edits_follow_each_other() {
        let add = |word: &'static str| {
            move |entry: &mut Map<String, Value>| {
                let before = entry.get("value").and_then(Value::as_str).unwrap_or_default().to_owned();
                entry.insert("value".to_owned(), json!(before + word));
            }
        };
        let sent = all(rows("{}").with_edit(add("a")).with_edit(add("b")).with_edit(add("c"))).unwrap();
        assert_eq!(sent, "{\"value\":\"abc\"}\n");
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let asked = std::sync::atomic::AtomicU32::new(0);
        let line = format!("{{\"value\":\"{}\"}}\n", "x".repeat(CHUNK_BYTES));
        let told = move || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2;
        assert_eq!(all(rows(&line.repeat(9)).until(told)).unwrap().lines().count(), 2);
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"{\"key\":\"a\"}\n{\"key\":\"b\"}\n").unwrap();
        let rows = Rows::new(Cursor::new(packed.finish().unwrap())).unwrap();
        assert_eq!(all(rows).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_broken_line_is_left_to_the_coordinator_and_an_endless_one_is_not() {
        assert_eq!(all(rows("not json\n{}\n")).unwrap(), "not json\n{}\n");
        let endless = io::repeat(b'x');
        assert!(matches!(all(Rows::new(endless).unwrap()), Err(RowsError::TooLong { entry: 1 })));
    }

    #[test]
    fn chunks_end_at_line_ends() {
        let line = format!("{{\"value\":\"{}\"}}\n", "x".repeat(1_000));
        let mut rows = rows(&line.repeat(1_000));
        let mut lines = 0;
        while let Some(chunk) = rows.next_chunk().unwrap() {
            assert!(chunk.ends_with(b"\n") && chunk.len() < CHUNK_BYTES + line.len());
            lines += chunk.iter().filter(|byte| **byte == b'\n').count();
        }
        assert_eq!(lines, 1_000);
    }
}
