//! Asks before something is destroyed: on a terminal a person, elsewhere the flag `--yes`.

use crate::config::Mistakes;
use std::io::{BufRead, IsTerminal, Write};

/// The flag of every destructive command.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Confirmation {
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

impl Confirmation {
    /// Whether nobody will be asked, so that nothing need be counted for the question.
    pub(super) fn is_given(self) -> bool {
        self.yes
    }

    /// Whether to go on with what the question says, such as "delete 3 dead jobs".
    ///
    /// # Errors
    /// [`Mistakes`] if there is nobody to ask.
    pub(super) fn given(self, question: &str) -> anyhow::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            return Err(Mistakes(vec![format!(
                "this would {question}, and there is no terminal to ask on; add --yes"
            )])
            .into());
        }
        let mut error = std::io::stderr();
        write!(error, "{question}? [y/N] ")?;
        error.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
