//! How answers are shown: tables for people, the API's own JSON for programs.

use super::client::Answer;
use super::error::CommandError;
use comfy_table::{CellAlignment, Table, presets};
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Where and how to print.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Print the API's answers as they are.
    pub(crate) json: bool,
    /// Columns of the terminal; none when standard output is no terminal.
    pub(crate) width: Option<usize>,
    colours: bool,
}

impl Output {
    /// Looks at standard output and standard error.
    pub(crate) fn detect(json: bool) -> Self {
        let stdout = io::stdout();
        let width = if stdout.is_terminal() {
            rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0)
        } else {
            None
        };
        Self { json, width, colours: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Prints text and a line end to standard output.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), CommandError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(CommandError::Output)
    }

    /// Prints an answer: as it came, or for people what `text` makes of it.
    pub(crate) fn show<T: DeserializeOwned, D: Display>(
        &self,
        answer: &Answer,
        text: impl FnOnce(T) -> D,
    ) -> Result<(), CommandError> {
        if self.json {
            return self.line(answer.text.trim_end());
        }
        self.line(text(answer.parse()?))
    }

    /// Text for standard error, red on a terminal.
    pub(crate) fn red(&self, text: &str) -> String {
        self.paint("31;1", text)
    }

    /// Text for standard error, green on a terminal.
    pub(crate) fn green(&self, text: &str) -> String {
        self.paint("32;1", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Rows under a header, two spaces between columns; a header that ends in `>` stands over a right-aligned column.
pub(crate) fn table<R>(header: &[&str], rows: R) -> String
where
    R: IntoIterator,
    R::Item: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(|title| title.trim_end_matches('>')).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.into_iter().collect::<Vec<_>>());
    }
    for (column, title) in table.column_iter_mut().zip(header) {
        column.set_padding((0, 2));
        if title.ends_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// One line of at most `width` characters, with an ellipsis where it was cut.
pub(crate) fn one_line(text: &str, width: Option<usize>) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let Some(width) = width else {
        return flat;
    };
    if flat.chars().count() <= width {
        return flat;
    }
    let mut cut: String = flat.chars().take(width.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

/// Bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

/// `1 worker`, `3 workers`.
pub(crate) fn count(number: impl Into<u64>, word: &str) -> String {
    let number = number.into();
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

/// `yes` or `no`.
pub(crate) fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

/// A value, or `-` for none.
pub(crate) fn or_dash(value: Option<impl Display>) -> String {
    match value {
        Some(value) => value.to_string(),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_aligned_columns_and_no_frame() {
        let rows = [["w1".to_owned(), "7".to_owned()], ["worker-12".to_owned(), "12345".to_owned()]];
        assert_eq!(table(&["NAME", "ROWS>"], rows), "NAME        ROWS\nw1             7\nworker-12  12345");
    }

    #[test]
    fn long_text_is_cut_at_the_width() {
        assert_eq!(one_line("short", Some(5)), "short");
        assert_eq!(one_line("a longer text", Some(8)), "a longe…");
        assert_eq!(one_line("a longer text", Some(3)), "a…");
        assert_eq!(one_line("two\nlines", None), "two lines");
        assert_eq!(one_line("größer als", Some(7)), "größer…");
    }

    #[test]
    fn bytes_and_counts_read_well() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(count(1_u32, "shard"), "1 shard");
        assert_eq!(count(0_u32, "shard"), "0 shards");
    }
}
