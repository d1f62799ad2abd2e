//! What is searched for: vectors, each with the namespace it belongs to.

use super::seeded;
use crate::cli::error::CommandError;
use crate::cli::import::{F16Rows, Rows};
use crate::dev::sample_rows;
use atoll_proto::entry::NewEntry;
use atoll_proto::{Namespace, Vector};
use bytes::Bytes;
use std::path::Path;

/// A vector to search for.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// Its own namespace.
    pub(super) namespace: Namespace,
    pub(super) vector: Vector,
}

/// Reads queries, or takes the sample's entries; at most so many, drawn the same way each time.
pub(super) fn read(files: Option<(&Path, &Path)>, most: usize) -> Result<Vec<Query>, CommandError> {
    drawn(open(files)?, most)
}

fn drawn(rows: Rows, most: usize) -> Result<Vec<Query>, CommandError> {
    let mut lines = seeded::shuffled(lines(rows)?);
    lines.truncate(most);
    let queries: Vec<Query> = lines.iter().map(|(number, line)| query(*number, line)).collect::<Result<_, _>>()?;
    if queries.is_empty() { Err(CommandError::Failed("there are no queries".to_owned())) } else { Ok(queries) }
}

/// Entries of a file with their vectors from another, or those of the sample.
pub(super) fn open(files: Option<(&Path, &Path)>) -> Result<Rows, CommandError> {
    let Some((entries, vectors)) = files else { return sample_rows() };
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| CommandError::File { doing: "read", path, source }
    };
    let rows = Rows::open(entries).map_err(unreadable(entries))?;
    Ok(rows.with_vectors(F16Rows::open(vectors).map_err(unreadable(vectors))?))
}

/// All lines with their numbers, from 1. Most are not drawn, so they are not read yet.
fn lines(mut rows: Rows) -> Result<Vec<(usize, Bytes)>, CommandError> {
    let mut lines = Vec::new();
    while let Some(chunk) = rows.next_chunk().map_err(|error| CommandError::failed(&error))? {
        for line in chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            lines.push((lines.len() + 1, chunk.slice_ref(line)));
        }
    }
    Ok(lines)
}

fn query(number: usize, line: &[u8]) -> Result<Query, CommandError> {
    let entry: NewEntry = serde_json::from_slice(line)
        .map_err(|error| CommandError::Failed(format!("query {number} is no entry: {error}")))?;
    let Some(vector) = entry.vector else {
        return Err(CommandError::Failed(format!("query {number} has no vector")));
    };
    Ok(Query { namespace: entry.namespace, vector })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_queries_are_drawn_each_time() {
        let names = |queries: Vec<Query>| -> Vec<String> {
            queries.into_iter().map(|query| query.namespace.to_string()).collect()
        };
        let draw = || drawn(open(None).unwrap().with_limit(60), 50).unwrap();
        let (first, second) = (draw(), draw());
        assert_eq!(first[0].vector.dimensions(), 384);
        assert_eq!(first.len(), 50);
        assert_eq!(names(first), names(second));
    }
}
