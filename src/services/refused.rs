//! The rows that an import refused: read page by page, and matched with the rows that were sent.
//!
//! A page may have 16 MB, for it repeats the rows. So of each refusal only its row and its reason are kept, and a list
//! that never ends is given up: then nobody knows all that was refused, which [`Refused::unclear`] says.

use super::bulk::permit_by;
use super::follow_up::{FollowUp, Whose};
use super::outcome::{Failure, Outcome};
use crate::klaviyo::{Client, ImportError, Operation, row_of_pointer};
use crate::queue::Reason;
use klaviyo_jobs::Invalid;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Pages of one import: 10,000 rows on the smallest pages that Klaviyo has.
const PAGES_MAX: usize = 500;
/// Klaviyo's sentences are shorter by far.
const TEXT_CHARS_MAX: usize = 1_000;

/// What an import refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Why, by the place of the row in the import.
    pub(crate) rows: BTreeMap<usize, Reason>,
    /// Refusals that match no row that was sent.
    strangers: usize,
    /// Whether the list was read to its end.
    is_whole: bool,
}

impl Refused {
    /// Reads all pages, as far as there can be something new on them.
    pub(crate) async fn read(
        client: &Client,
        follow_up: &FollowUp,
        end_by: Instant,
    ) -> Result<Self, Outcome> {
        let mut refused = Self {
            rows: BTreeMap::new(),
            strangers: 0,
            is_whole: false,
        };
        let whose = Whose::of(follow_up);
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let operation = Operation::GetErrorsForBulkImportProfilesJob;
            let granted = permit_by(client, operation, end_by).await;
            // The rows that were read so far are read again.
            let granted = granted.ok_or(Outcome::Later(Duration::ZERO))?;
            let page = client
                .get_errors_for_bulk_import_profiles_job(
                    granted,
                    &follow_up.import_id,
                    next.as_deref(),
                )
                .await
                .map_err(|error| Outcome::Failed(Failure::of(&error)))?;
            for error in &page.rows {
                refused.add(error, follow_up, &whose);
            }
            next = page.next;
            if next.is_none() || refused.rows.len() == follow_up.rows.len() {
                refused.is_whole = true;
                break;
            }
        }
        Ok(refused)
    }

    /// Says why somebody has to look at the import itself, if somebody has to.
    pub(crate) fn unclear(&self) -> Option<Invalid> {
        if !self.is_whole {
            let why = "the list of rows that the import refused does not end";
            Some(Invalid::internal(why))
        } else if self.strangers > 0 {
            let why = "the import refused rows that match none of those sent";
            Some(Invalid::internal(why))
        } else {
            None
        }
    }

    fn add(&mut self, error: &ImportError, follow_up: &FollowUp, whose: &Whose) {
        match row_of(error, follow_up, whose) {
            Some(row) => {
                self.rows.entry(row).or_insert_with(|| reason(error));
            }
            None => self.strangers += 1,
        }
    }
}

fn row_of(error: &ImportError, follow_up: &FollowUp, whose: &Whose) -> Option<usize> {
    let pointer = error.pointer.as_deref().and_then(row_of_pointer);
    let by_pointer = pointer.map(|(row, _)| row);
    by_pointer
        .filter(|row| *row < follow_up.rows.len())
        .or_else(|| whose.row_of_payload(error.original_payload.as_ref()?))
}

fn reason(error: &ImportError) -> Reason {
    let says = error.detail.as_deref().or(error.title.as_deref());
    Reason {
        code: "klaviyo.import_refused",
        status: None,
        detail: cut(says.unwrap_or("Klaviyo refused the row")).into(),
        pointer: error.pointer.as_deref().map(|it| cut(it).into()),
    }
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(TEXT_CHARS_MAX);
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::memory::{Answer, Memory};
    use crate::klaviyo::{BudgetScale, LocalBudget, Settings};
    use crate::services::follow_up::FollowedRow;
    use secrecy::SecretString;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn client() -> (Client, Memory) {
        let memory = Memory::new();
        let settings = Settings::new(
            "https://a.klaviyo.com".parse().unwrap(),
            SecretString::from("pk_test"),
        );
        let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
        let client = Client::with_transport(settings, budget, Arc::new(memory.clone()));
        (client.unwrap(), memory)
    }

    fn import_of(rows: usize) -> FollowUp {
        FollowUp {
            import_id: "import".to_owned(),
            rows: (0..rows)
                .map(|_| FollowedRow { jobs: Vec::new() })
                .collect(),
        }
    }

    fn end_by() -> Instant {
        Instant::now() + Duration::from_mins(9)
    }

    fn error(row: usize, detail: &str) -> Value {
        json!({"attributes": {"detail": detail, "original_payload": {"id": "x"},
            "source": {"pointer": format!("/data/attributes/profiles/data/{row}/attributes/email")}}})
    }

    fn page(memory: &Memory, errors: &[Value], has_next: bool) {
        let next = has_next.then_some("https://a.klaviyo.com/?page%5Bcursor%5D=c");
        let body = json!({"data": errors, "links": {"next": next}});
        memory.answer(Answer::new(200, body.to_string()));
    }

    #[tokio::test]
    async fn a_list_of_refused_rows_that_never_ends_is_given_up_when_every_row_is_known() {
        let (client, memory) = client();
        for _ in 0..10 {
            page(&memory, &[error(0, "no"), error(1, "no")], true);
        }
        let refused = Refused::read(&client, &import_of(2), end_by())
            .await
            .unwrap();
        assert_eq!((refused.rows.len(), refused.is_whole), (2, true));
        assert_eq!(memory.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_list_of_refused_rows_that_repeats_without_end_is_given_up_and_says_so() {
        let (client, memory) = client();
        for _ in 0..=PAGES_MAX {
            page(&memory, &[error(1, "no"), error(9, "of whom?")], true);
        }
        let refused = Refused::read(&client, &import_of(3), end_by())
            .await
            .unwrap();
        assert_eq!((refused.rows.len(), refused.is_whole), (1, false));
        assert_eq!(refused.strangers, PAGES_MAX);
        assert_eq!(memory.requests().len(), PAGES_MAX);
    }

    #[tokio::test]
    async fn of_a_refused_row_the_first_reason_is_kept_and_no_text_without_end() {
        let (client, memory) = client();
        page(&memory, &[error(1, &"ä".repeat(5_000))], true);
        page(&memory, &[error(1, "second"), error(0, "short")], false);
        let refused = Refused::read(&client, &import_of(3), end_by())
            .await
            .unwrap();
        assert!(refused.is_whole);
        assert_eq!(&*refused.rows[&0].detail, "short");
        assert_eq!(&*refused.rows[&1].detail, "ä".repeat(TEXT_CHARS_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_of_refused_rows_that_nobody_may_read_in_time_is_read_later() {
        let (client, memory) = client();
        page(&memory, &[error(1, "no")], true);
        let refused = Refused::read(&client, &import_of(3), Instant::now()).await;
        assert!(matches!(refused, Err(Outcome::Later(Duration::ZERO))));
        assert_eq!(memory.requests().len(), 0);
    }

    #[tokio::test]
    async fn a_refusal_of_one_of_two_rows_with_one_phone_is_of_the_row_with_its_external_id() {
        let (client, memory) = client();
        let phone = "+491711234567";
        let row = |external_id: &str| {
            let profile = json!({"external_id": external_id, "phone_number": phone});
            let upsert = json!({"kind": "profile.upsert", "data": {"profile": profile}});
            json!({"jobs": [["7-1", upsert]]})
        };
        let import = FollowUp {
            import_id: "import".to_owned(),
            rows: serde_json::from_str(&json!([row("A"), row("B")]).to_string()).unwrap(),
        };
        let payload = json!({"attributes": {"external_id": "B", "phone_number": phone}});
        let error = json!({"attributes": {"detail": "no", "original_payload": payload,
            "source": {"pointer": "/data/attributes/email"}}});
        page(&memory, &[error], false);
        let refused = Refused::read(&client, &import, end_by()).await.unwrap();
        let rows: Vec<usize> = refused.rows.into_keys().collect();
        assert_eq!((rows, refused.strangers), (vec![1], 0));
    }
}
