//! Data: the WordNet entries that ship with the program, and the full data set where it is at hand.

use flate2::read::GzDecoder;
use half::f16;
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Names the folder of the full data set: base.jsonl.gz and base.f16bin.
const FULL_VARIABLE: &str = "ATOLL_WORDNET_DIR";

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// Its text.
    pub value: String,
    /// Its metadata.
    pub metadata: Map<String, Value>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its vector.
    pub vector: Vec<f32>,
}

impl Sample {
    /// The entry as a batch or an import takes it.
    pub fn to_json(&self) -> Value {
        json!({
            "namespace": self.namespace, "key": self.key, "value": self.value, "metadata": self.metadata, "tags": self.tags,
            "vector": self.vector,
        })
    }
}

/// The 5,000 entries that ship with the program.
pub fn sample() -> Vec<Sample> {
    let folder = sample_folder();
    read(&folder.join("wordnet.jsonl.gz"), &folder.join("wordnet.f16bin"))
}

/// Where they lie.
pub fn sample_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample")
}

/// The full data set, if it is there.
pub fn full() -> Option<Vec<Sample>> {
    let folder = PathBuf::from(std::env::var_os(FULL_VARIABLE)?);
    Some(read(&folder.join("base.jsonl.gz"), &folder.join("base.f16bin")))
}

/// Entries as NDJSON.
pub fn ndjson(entries: &[Sample]) -> String {
    entries.iter().map(|entry| format!("{}\n", entry.to_json())).collect()
}

/// Entries, a line each, plain or gzipped, with their vectors from a file of the same order.
pub fn read(entries: &Path, vectors: &Path) -> Vec<Sample> {
    let vectors = std::fs::read(vectors).unwrap_or_else(|error| panic!("{}: {error}", vectors.display()));
    let number = |at: usize| u32::from_le_bytes(vectors[at..at + 4].try_into().expect("four bytes")) as usize;
    let (count, dimensions) = (number(0), number(4));
    let mut rows = vectors[8..].chunks_exact(dimensions * 2).map(|row| {
        row.chunks_exact(2).map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()).collect::<Vec<f32>>()
    });
    let file = std::fs::File::open(entries).unwrap_or_else(|error| panic!("{}: {error}", entries.display()));
    let unpacked: Box<dyn Read> = match entries.extension().is_some_and(|extension| extension == "gz") {
        true => Box::new(GzDecoder::new(file)),
        false => Box::new(file),
    };
    let read: Vec<Sample> = BufReader::new(unpacked)
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(&line.expect("readable data")).expect("a JSON object a line");
            let text = |field: &str| line[field].as_str().expect("a text").to_owned();
            Sample {
                namespace: text("namespace"),
                key: text("key"),
                value: text("text"),
                metadata: line["metadata"].as_object().expect("an object").clone(),
                tags: vec![line["metadata"]["pos"].as_str().expect("a part of speech").to_owned()],
                vector: rows.next().expect("as many vectors as entries"),
            }
        })
        .collect();
    assert_eq!(read.len(), count, "as many entries as vectors");
    read
}
