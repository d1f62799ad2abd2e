//! Vectors beside their entries: little-endian uint32 n, uint32 d, then n · d half-precision floats, row by row.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER_BYTES: u64 = 8;
const HALF_BYTES: u64 = 2;

/// Reads an f16bin file row by row.
pub(crate) struct F16Rows {
    reader: Box<dyn Read + Send>,
    dimensions: u32,
    left: u64,
    row: Vec<u8>,
}

impl F16Rows {
    /// Opens a file and checks that it is as long as its header says.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Self::new(Box::new(BufReader::new(file)), bytes)
    }

    /// Reads `bytes` bytes from `reader`.
    pub(crate) fn new(mut reader: Box<dyn Read + Send>, bytes: u64) -> io::Result<Self> {
        let mut header = [0; HEADER_BYTES as usize];
        reader.read_exact(&mut header)?;
        let [r0, r1, r2, r3, d0, d1, d2, d3] = header;
        let rows = u32::from_le_bytes([r0, r1, r2, r3]);
        let dimensions = u32::from_le_bytes([d0, d1, d2, d3]);
        let row_bytes = u64::from(dimensions) * HALF_BYTES;
        let expected = u64::from(rows).checked_mul(row_bytes).and_then(|body| body.checked_add(HEADER_BYTES));
        if dimensions == 0 || expected != Some(bytes) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no f16bin file: {rows} rows of {dimensions} halves announced, {bytes} bytes there"),
            ));
        }
        // The length was checked, so a row is no longer than the file.
        let row = vec![0; row_bytes as usize];
        Ok(Self { reader, dimensions, left: rows.into(), row })
    }

    /// Numbers in each row.
    pub(crate) fn dimensions(&self) -> u32 {
        self.dimensions
    }

    /// Rows not yet read.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Leaves rows out, as far as there are any.
    pub(crate) fn skip(&mut self, rows: u64) -> io::Result<()> {
        let rows = rows.min(self.left);
        let bytes = rows * self.row.len() as u64;
        if io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink())? < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= rows;
        Ok(())
    }

    /// The next row; none after the last.
    pub(crate) fn next_row(&mut self) -> io::Result<Option<Vec<f32>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.reader.read_exact(&mut self.row)?;
        self.left -= 1;
        let numbers = self.row.chunks_exact(2).map(|half| half::f16::from_le_bytes([half[0], half[1]]).to_f32());
        Ok(Some(numbers.collect()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Cursor;

    fn file(rows: u32, dimensions: u32, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(rows.to_le_bytes());
        bytes.extend(dimensions.to_le_bytes());
        for number in numbers {
            bytes.extend(half::f16::from_f32(*number).to_le_bytes());
        }
        bytes
    }

    fn open(bytes: Vec<u8>) -> io::Result<F16Rows> {
        let length = bytes.len() as u64;
        F16Rows::new(Box::new(Cursor::new(bytes)), length)
    }

    #[test]
    fn rows_come_in_order_and_end() {
        let mut rows = open(file(3, 2, &[1.0, -0.5, 0.25, 2.0, 65504.0, 0.0])).unwrap();
        assert_eq!((rows.dimensions(), rows.left()), (2, 3));
        assert_eq!(rows.next_row().unwrap(), Some(vec![1.0, -0.5]));
        rows.skip(1).unwrap();
        assert_eq!(rows.next_row().unwrap(), Some(vec![65504.0, 0.0]));
        assert_eq!(rows.next_row().unwrap(), None);
        rows.skip(5).unwrap();
    }

    #[test]
    fn a_wrong_length_is_refused() {
        assert!(open(file(2, 2, &[1.0, 2.0, 3.0])).is_err());
        assert!(open(file(1, 2, &[1.0, 2.0, 3.0])).is_err());
        assert!(open(file(0, 0, &[])).is_err());
        assert!(open(file(u32::MAX, u32::MAX, &[])).is_err());
        assert!(open(vec![1, 2, 3]).is_err());
    }
}
