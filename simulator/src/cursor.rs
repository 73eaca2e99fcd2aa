//! Pages and the links between them.
//!
//! A cursor is an offset, opaque to callers. The official clients shorten a pasted link only when it contains
//! `https://`, so a whole link and a leading `=` are accepted as cursors too.

use serde_json::{Value, json};

use crate::problem::Problem;
use crate::query::Query;

const PREFIX: &str = "sim";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) offset: usize,
    pub(crate) size: usize,
}

impl Page {
    pub(crate) fn of(query: &Query, default: usize, max: usize) -> Result<Self, Problem> {
        let size = match query.get("page[size]") {
            None => default,
            Some(text) => match text.parse::<usize>() {
                Ok(size) if (1..=max).contains(&size) => size,
                _ => {
                    return Err(Problem::parameter(
                        "page[size]",
                        format!("Page size must be an integer from 1 to {max}."),
                    ));
                }
            },
        };
        let offset = match query
            .get("page[cursor]")
            .filter(|cursor| !cursor.is_empty())
        {
            None => 0,
            Some(cursor) => offset_in(cursor)
                .ok_or_else(|| Problem::parameter("page[cursor]", "Invalid page cursor."))?,
        };
        Ok(Self { offset, size })
    }

    /// A page whose size the caller cannot choose.
    pub(crate) fn fixed(query: &Query, size: usize) -> Result<Self, Problem> {
        if query.get("page[size]").is_some() {
            return Err(Problem::parameter(
                "page[size]",
                "'page[size]' is not a valid parameter here.",
            ));
        }
        Self::of(query, size, size)
    }

    /// The rows of this page, and whether more follow.
    pub(crate) fn cut<T>(self, rows: impl Iterator<Item = T>) -> (Vec<T>, bool) {
        let mut rows: Vec<T> = rows.skip(self.offset).take(self.size + 1).collect();
        let more = rows.len() > self.size;
        rows.truncate(self.size);
        (rows, more)
    }

    pub(crate) fn links(self, url: &str, query: &Query, more: bool) -> Value {
        let link = |offset: usize| {
            let kept = query
                .without_cursor()
                .map(|(key, value)| format!("{}={}&", encode(key), encode(value)));
            format!(
                "{url}?{}page%5Bcursor%5D={PREFIX}{offset}",
                kept.collect::<String>()
            )
        };
        json!({
            "self": link(self.offset),
            "next": more.then(|| link(self.offset + self.size)),
            "prev": (self.offset > 0).then(|| link(self.offset.saturating_sub(self.size))),
        })
    }
}

fn offset_in(cursor: &str) -> Option<usize> {
    let mut cursor = cursor;
    for name in ["page[cursor]=", "page%5Bcursor%5D="] {
        if let Some((_, after)) = cursor.split_once(name) {
            cursor = after.split('&').next()?;
        }
    }
    cursor
        .trim_start_matches('=')
        .strip_prefix(PREFIX)?
        .parse()
        .ok()
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend([byte >> 4, byte & 15].map(hex_digit));
        }
    }
    encoded
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_found_in_what_the_official_clients_send() {
        assert_eq!(offset_in("sim20"), Some(20));
        assert_eq!(offset_in("=sim20"), Some(20));
        assert_eq!(
            offset_in("http://127.0.0.1:1/api/profiles?page%5Bcursor%5D=sim40&x=1"),
            Some(40)
        );
        assert_eq!(
            offset_in("http://127.0.0.1:1/api/profiles?page[cursor]=sim40"),
            Some(40)
        );
        assert_eq!(offset_in("WzE2"), None);
    }
}
