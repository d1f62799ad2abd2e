//! Vectors from the command line: JSON in an argument, or a file.

use super::error::CommandError;
use super::import::F16Rows;
use atoll_proto::Vector;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// Where a vector comes from.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct VectorInput {
    /// Vector as JSON: `[0.1, -0.2, …]`, or `{"b64": "<little-endian f32>"}`.
    #[arg(long, value_name = "JSON", value_parser = parse, allow_hyphen_values = true)]
    pub(crate) vector: Option<Vector>,
    /// File with a vector: JSON, or f16bin (its first row, or that of --vector-row).
    #[arg(long, value_name = "FILE")]
    pub(crate) vector_file: Option<PathBuf>,
}

impl VectorInput {
    /// The vector, if one was given. `row` counts from 0 and is for f16bin files.
    pub(crate) fn read(self, row: u32) -> Result<Option<Vector>, CommandError> {
        match self.vector_file {
            Some(path) => from_file(&path, row).map(Some),
            None => Ok(self.vector),
        }
    }
}

fn parse(text: &str) -> Result<Vector, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// JSON begins with a bracket or a brace; the row count of an f16bin file hardly does (it would have 91 or 123 modulo 256
/// rows and then read as broken JSON), so its exact length decides.
fn from_file(path: &Path, row: u32) -> Result<Vector, CommandError> {
    let unreadable = |source| CommandError::File { doing: "read", path: path.to_owned(), source };
    if let Ok(mut rows) = F16Rows::open(path) {
        rows.skip(row.into()).map_err(unreadable)?;
        let Some(numbers) = rows.next_row().map_err(unreadable)? else {
            return Err(CommandError::Usage(format!("{} has no row {row}", path.display())));
        };
        return Vector::new(numbers).map_err(|error| CommandError::Failed(format!("{}: {error}", path.display())));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    BufReader::new(file).read_to_string(&mut text).map_err(unreadable)?;
    parse(&text).map_err(|error| {
        CommandError::Failed(format!("{} is neither a JSON vector ({error}) nor an f16bin file", path.display()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_of_both_kinds_give_the_vector() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("v.json");
        std::fs::write(&json, "[1, -0.5]\n").unwrap();
        assert_eq!(from_file(&json, 0).unwrap().as_slice(), [1.0, -0.5]);

        let binary = folder.path().join("v.f16bin");
        let mut bytes = Vec::new();
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(2_u32.to_le_bytes());
        for number in [1.0_f32, -0.5, 2.0, 0.25] {
            bytes.extend(half::f16::from_f32(number).to_le_bytes());
        }
        std::fs::write(&binary, bytes).unwrap();
        assert_eq!(from_file(&binary, 0).unwrap().as_slice(), [1.0, -0.5]);
        assert_eq!(from_file(&binary, 1).unwrap().as_slice(), [2.0, 0.25]);
        assert!(matches!(from_file(&binary, 2), Err(CommandError::Usage(_))));
    }
}
