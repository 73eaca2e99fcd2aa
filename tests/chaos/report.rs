//! The table: what is required, what was seen.

use std::fmt::Write;
use std::time::Duration;

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) required: String,
    pub(crate) seen: String,
    /// `None` is only told.
    pub(crate) ok: Option<bool>,
}

/// What came of one scenario.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) figures: Vec<Figure>,
    /// Why it stopped before its end.
    pub(crate) stopped: Option<String>,
    pub(crate) took: Duration,
}

impl Outcome {
    pub(crate) fn is_ok(&self) -> bool {
        self.stopped.is_none()
            && !self.figures.is_empty()
            && self.figures.iter().all(|figure| figure.ok != Some(false))
    }
}

/// Makes the table of everything that ran.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut lines = vec![["scenario", "figure", "required", "seen", ""].map(str::to_owned)];
    for outcome in outcomes {
        let mut name = outcome.name.to_owned();
        for figure in &outcome.figures {
            let verdict = match figure.ok {
                Some(true) => "ok",
                Some(false) => "FAILED",
                None => "",
            };
            lines.push([
                std::mem::take(&mut name),
                figure.what.clone(),
                figure.required.clone(),
                figure.seen.clone(),
                verdict.to_owned(),
            ]);
        }
        if outcome.stopped.is_some() {
            lines.push(
                [name.as_str(), "stopped early", "-", "see below", "FAILED"].map(str::to_owned),
            );
        }
    }
    let mut widths = [0; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(widths) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for outcome in outcomes {
        if let Some(why) = &outcome.stopped {
            let _ = writeln!(text, "{}: {why}", outcome.name);
        }
    }
    text
}
