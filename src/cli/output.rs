//! Writes to standard output and standard error. A closed pipe ends the writing quietly.

use serde::Serialize;
use std::io::{IsTerminal, Write};

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

pub(crate) fn line(text: &str) {
    // Whoever closed the pipe does not want to hear about it.
    writeln!(std::io::stdout(), "{text}").unwrap_or(());
}

pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?);
    Ok(())
}

pub(crate) fn complain(text: &str) {
    writeln!(std::io::stderr(), "klaviyod: {text}").unwrap_or(());
}

/// Writes rows under a header, columns aligned.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([header[column].len()])
            .max()
    };
    let widths: Vec<usize> = (0..header.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let format = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    line(&format(header.to_vec()));
    for row in rows {
        line(&format(row.iter().map(String::as_str).collect()));
    }
}
