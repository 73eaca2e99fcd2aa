//! Whether jobs could leave at all, as the client's gates say: nothing is fetched that could only wait.

use crate::klaviyo::Client;
use crate::queue::Outlook;
use crate::services::no_way_left;
use std::sync::Arc;

/// The gates of one account, by kind.
#[derive(Debug)]
pub struct Gates {
    client: Arc<Client>,
}

impl Gates {
    /// Creates the outlook of all kinds.
    pub fn new(client: Arc<Client>) -> Self {
        Self { client }
    }
}

impl Outlook for Gates {
    fn is_shut(&self, kind: &str) -> bool {
        no_way_left(kind, |operation| self.client.closed(operation).is_some())
    }
}

#[cfg(test)]
mod tests {
    use crate::services::ways_of;
    use crate::worker::routes;

    #[test]
    fn every_registered_kind_has_a_way_to_klaviyo() {
        let mut without: Vec<&str> = routes().iter().map(|it| it.kind).collect();
        without.retain(|kind| ways_of(kind).is_empty());
        assert!(without.is_empty(), "services::ways lacks {without:?}");
    }
}
