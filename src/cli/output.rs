//! Writes to standard output and standard error. A closed pipe ends the writing quietly.

use anyhow::Context;
use serde::Serialize;
use std::io::{ErrorKind, IsTerminal, Write};

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

impl Output {
    /// What was asked for, else a table on a terminal and JSON in a pipe.
    pub(crate) fn or_fitting(asked: Option<Self>) -> Self {
        asked.unwrap_or(if std::io::stdout().is_terminal() {
            Self::Table
        } else {
            Self::Json
        })
    }
}

pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    line_was_read(text).map(|_| ())
}

/// Writes a line; false if nobody reads any more, so that what goes on for long can end.
pub(crate) fn line_was_read(text: &str) -> anyhow::Result<bool> {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Ok(true),
        // Whoever closed the pipe does not want to hear about it.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("failed to write the output"),
    }
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Writes to standard error, always one line: errors quote what came from outside.
pub(crate) fn complain(text: &str) {
    writeln!(std::io::stderr(), "klaviyod: {}", harmless(text)).unwrap_or(());
}

/// Writes rows under a header, columns aligned.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let columns = Columns::fitting(header, rows);
    columns.write(header)?;
    for row in rows {
        columns.write(row)?;
    }
    Ok(())
}

/// Columns as wide as the rows they were fitted to; later rows keep them.
#[derive(Debug)]
pub(crate) struct Columns(Vec<usize>);

impl Columns {
    pub(crate) fn fitting(header: &[&str], rows: &[Vec<String>]) -> Self {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([header[column].len()]).max()
        };
        Self(
            (0..header.len())
                .map(|column| width(column).unwrap_or(0))
                .collect(),
        )
    }

    /// Writes a row; false if nobody reads any more.
    pub(crate) fn write(&self, cells: &[impl AsRef<str>]) -> anyhow::Result<bool> {
        let padded: Vec<String> = cells
            .iter()
            .zip(&self.0)
            .map(|(cell, width)| format!("{:<width$}", harmless(cell.as_ref())))
            .collect();
        line_was_read(padded.join("  ").trim_end())
    }
}

/// Takes out what would move the cursor or end the row: details and ids come from outside.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

/// Returns the number of dead jobs in words: "1 dead job", "2 dead jobs".
pub(crate) fn dead_jobs(count: u64) -> String {
    format!("{count} dead job{}", if count == 1 { "" } else { "s" })
}

/// Cuts a text for a cell.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_cannot_move_the_cursor() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc"), "a [2Jb c");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("äbcd", 4), "äbcd");
    }
}
