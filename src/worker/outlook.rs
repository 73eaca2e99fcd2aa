//! Whether jobs could leave at all, as the client's gates say: nothing is fetched that could only wait.

use super::register;
use crate::klaviyo::{Client, Operation};
use crate::queue::Outlook;
use std::sync::Arc;

/// The gates of one account, by kind.
#[derive(Debug)]
pub struct Gates {
    client: Arc<Client>,
    kinds: Vec<(&'static str, &'static [Operation])>,
}

impl Gates {
    /// Creates the outlook of all registered kinds.
    pub fn new(client: Arc<Client>) -> Self {
        let kinds = register().into_iter();
        let kinds = kinds.map(|it| (it.route.kind, it.operations)).collect();
        Self { client, kinds }
    }
}

impl Outlook for Gates {
    fn is_shut(&self, kind: &str) -> bool {
        let found = self.kinds.iter().find(|(known, _)| *known == kind);
        found.is_some_and(|(_, operations)| {
            let is_shut = |operation: &Operation| self.client.closed(*operation).is_some();
            operations.iter().all(is_shut)
        })
    }
}
