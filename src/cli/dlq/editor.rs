//! Opens a job in the operator's editor.

use crate::queue::Payload;
use anyhow::Context;
use serde_json::value::RawValue;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The shell knows the editor, and how to read a setting such as `code --wait`.
const EDITOR: &str = r#"${VISUAL:-${EDITOR:-vi}} "$1""#;

/// Opens the job in the editor and returns what came of it; `None` if nothing was changed.
pub(super) async fn edited_by_hand(job: &Payload) -> anyhow::Result<Option<String>> {
    let before = match job.json() {
        Some(json) => indented(json.get()),
        None => String::from_utf8_lossy(job.as_bytes()).into_owned(),
    };
    let after = edited_with(EDITOR, &before).await?;
    Ok((after.trim() != before.trim()).then_some(after))
}

async fn edited_with(editor: &str, text: &str) -> anyhow::Result<String> {
    let file = PersonalFile::write(text)?;
    let mut shell = Command::new("sh");
    let shell = shell.args(["-c", editor, "sh"]).arg(&file.0);
    let ended = shell.status().await.context("failed to start an editor")?;
    anyhow::ensure!(ended.success(), "the editor failed; nothing was changed");
    fs::read_to_string(&file.0).context("failed to read what the editor wrote")
}

/// Keeps what the operator wrote, where nobody else reads it, and returns where.
pub(super) fn kept(text: &str) -> anyhow::Result<PathBuf> {
    let file = PersonalFile::write(text)?;
    Ok(std::mem::ManuallyDrop::new(file).0.clone())
}

/// A file that nobody else reads, gone at the end.
struct PersonalFile(PathBuf);

impl PersonalFile {
    fn write(text: &str) -> anyhow::Result<Self> {
        let name = format!("klaviyod-{:016x}.json", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        let file = create(&path);
        let file = file.and_then(|mut file| file.write_all(text.as_bytes()));
        file.with_context(|| format!("failed to write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PersonalFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap_or(());
    }
}

/// Creates a file that is not there yet and that only its owner reads: payloads are about people.
pub(super) fn create(path: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// Lays JSON out over lines without touching a value: a number stays as it was written.
pub(super) fn indented(json: &str) -> String {
    let Ok(json) = serde_json::from_str::<&RawValue>(json) else {
        return json.to_owned();
    };
    let mut laid_out = String::with_capacity(2 * json.get().len());
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut chars = json.get().chars().peekable();
    while let Some(char) = chars.next() {
        if in_text {
            in_text = escaped || char != '"';
            escaped = !escaped && char == '\\';
            laid_out.push(char);
            continue;
        }
        match char {
            '{' | '[' => {
                laid_out.push(char);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    laid_out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut laid_out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                new_line(&mut laid_out, depth);
                laid_out.push(char);
            }
            ',' => {
                laid_out.push(char);
                new_line(&mut laid_out, depth);
            }
            ':' => laid_out.push_str(": "),
            char if char.is_ascii_whitespace() => {}
            char => {
                in_text = char == '"';
                laid_out.push(char);
            }
        }
    }
    laid_out
}

/// Deeper than this, depth is not shown: hostile nesting would make megabytes of spaces.
const DEPTH_SHOWN_MAX: usize = 50;

fn new_line(laid_out: &mut String, depth: usize) {
    laid_out.push('\n');
    for _ in 0..depth.min(DEPTH_SHOWN_MAX) {
        laid_out.push_str("  ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn json_is_laid_out_without_touching_a_value() {
        let json = r#"{"a":{},"b":[1, 9007199254740993.10],"c":"x{\",:\\"}"#;
        let laid_out = "{\n  \"a\": {},\n  \"b\": [\n    1,\n    9007199254740993.10\n  ],\n  \"c\": \"x{\\\",:\\\\\"\n}";
        assert_eq!(indented(json), laid_out);
        assert_eq!(indented("not json"), "not json");
    }

    #[tokio::test]
    async fn an_editor_changes_the_text_and_its_file_is_gone() {
        let changes = r#"sed -i s/old/new/ "$1"; basename "$1" >> "$1""#;
        let after = edited_with(changes, "old job\n").await.unwrap();
        let (job, name) = after.split_once('\n').unwrap();
        assert_eq!(job, "new job");
        assert!(!std::env::temp_dir().join(name.trim()).exists());
        assert!(edited_with("false", "x").await.is_err());
    }

    #[test]
    fn what_was_written_is_kept_for_its_owner_only() {
        let path = kept("new job").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new job");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(path).unwrap();
    }
}
