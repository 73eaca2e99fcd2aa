//! What the audit knows about a job. The database is opened only when it is asked.

use super::Operations;
use crate::store::{Attempt, Attempts, Database, Error, Store};
use secrecy::{ExposeSecret, SecretString};

/// Where the audit is.
#[derive(Clone, Debug)]
pub(super) struct AuditPlace {
    url: SecretString,
    hash_key: Option<SecretString>,
}

/// What was found in the audit.
#[derive(Debug, Default)]
pub(super) struct Audited {
    pub(super) attempts: Vec<Attempt>,
    /// What was not searched, and why.
    pub(super) not_searched: Option<String>,
}

impl Operations {
    /// Says where the audit is, and with which key its ids are hashed.
    #[must_use]
    pub fn with_audit(mut self, url: SecretString, hash_key: Option<SecretString>) -> Self {
        self.audit = Some(AuditPlace { url, hash_key });
        self
    }

    /// Finds the attempts of the jobs with these ids, oldest first. A database that is away is no failure.
    pub(super) async fn audited(&self, ids: &[String]) -> Audited {
        let not_searched = |why: String| Audited {
            attempts: Vec::new(),
            not_searched: Some(format!("audit: {why}")),
        };
        let Some(place) = &self.audit else {
            return not_searched("no database is configured".to_owned());
        };
        match place.search(self.keys.account(), ids).await {
            Ok(audited) => audited,
            // The source may name users and hosts, and says nothing that helps here.
            Err(error) => not_searched(error.to_string()),
        }
    }
}

impl AuditPlace {
    async fn search(&self, account: &str, ids: &[String]) -> Result<Audited, Error> {
        let database = Database::look(self.url.expose_secret()).await?;
        let store = Store::open(database, self.hash_key.as_ref()).await?;
        let mut audited = Audited::default();
        for id in ids {
            let Attempts {
                found,
                searched_back_to,
                is_cut,
            } = store.attempts(account, None, id).await?;
            audited.attempts.extend(found);
            if is_cut {
                audited.not_searched = Some(format!(
                    "audit: calls before {searched_back_to}; the search took too long"
                ));
            }
        }
        store.close().await;
        audited.attempts.sort_by_key(|it| (it.ended_at, it.attempt));
        Ok(audited)
    }
}
