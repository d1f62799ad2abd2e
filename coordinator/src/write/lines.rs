//! Lines out of a stream of bytes, in bounded memory: of a line that is too long nothing is kept.

use bytes::{Buf, BytesMut};

/// Gathers bytes and gives whole lines.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// Longest line, in bytes.
    most: usize,
    /// Whether the rest of a line that is too long is still to come.
    skipping: bool,
}

/// A line without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// As it came.
    Whole(BytesMut),
    /// Longer than allowed.
    TooLong,
}

impl Lines {
    pub(super) fn new(most: usize) -> Self {
        Self { buffer: BytesMut::new(), most, skipping: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next line; at the end of the input also one without a line break.
    pub(super) fn next(&mut self, ended: bool) -> Option<Line> {
        let line = match self.buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                line
            }
            None if ended && (self.skipping || !self.buffer.is_empty()) => self.buffer.split(),
            None => {
                if self.buffer.len() > self.most {
                    self.buffer.clear();
                    self.skipping = true;
                }
                return None;
            }
        };
        let too_long = std::mem::take(&mut self.skipping) || line.len() > self.most;
        Some(if too_long { Line::TooLong } else { Line::Whole(line) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Line {
        Line::Whole(BytesMut::from(text))
    }

    #[test]
    fn lines_come_whole_and_the_last_needs_no_break() {
        let mut lines = Lines::new(10);
        lines.push(b"ab\nc");
        assert_eq!(lines.next(false), Some(whole("ab")));
        assert_eq!(lines.next(false), None);
        assert_eq!(lines.next(true), Some(whole("c")));
        assert_eq!(lines.next(true), None);
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_however_it_comes() {
        for chunk in [1, 2, 3, 7, 100] {
            let mut lines = Lines::new(3);
            let mut found = Vec::new();
            for bytes in b"abc\nabcd\nabcdefgh\nx\n\nabcd".chunks(chunk) {
                lines.push(bytes);
                found.extend(std::iter::from_fn(|| lines.next(false)));
                assert!(lines.buffer.len() <= 3 + chunk, "what is left out is not kept");
            }
            found.extend(std::iter::from_fn(|| lines.next(true)));
            let text = |line: Line| match line {
                Line::Whole(line) => String::from_utf8_lossy(&line).into_owned(),
                Line::TooLong => "too long".to_owned(),
            };
            let found: Vec<String> = found.into_iter().map(text).collect();
            assert_eq!(found, ["abc", "too long", "too long", "x", "", "too long"], "in chunks of {chunk}");
        }
    }
}
