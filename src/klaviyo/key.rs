//! The private key while we run: replacing it, and asking Klaviyo whether it works.
//!
//! The surprising thing: 403 to the question is a yes. The key works, it only may not read the account; so the
//! question passes by the gate of its own operation and tells it nothing.

use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use secrecy::SecretString;
use tokio::time::Instant;

use super::client::Client;
use super::error::{Error, ErrorKind};
use super::gate::LOCKED;
use super::operation::Operation;
use super::settings::{SetupError, authorization};

/// How long the question may wait for the budget.
const PATIENCE: Duration = Duration::from_secs(5);

impl Client {
    /// Calls with another key from now on. Says whether it is another; if so, a closed gate is probed at once.
    ///
    /// # Errors
    /// [`SetupError::Key`] when no header can carry it; the key before stays.
    pub fn replace_key(&self, key: &SecretString) -> Result<bool, SetupError> {
        let authorization = authorization(key)?;
        let mut headers = self.headers.lock().expect(LOCKED);
        let before = headers.insert(AUTHORIZATION, authorization.clone());
        drop(headers);
        let is_another = before.as_ref() != Some(&authorization);
        if is_another {
            self.barriers.credentials.hurry(Instant::now());
        }
        Ok(is_another)
    }

    /// Asks Klaviyo whether the key works, as the probe of the credentials gate if that is closed.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] when it does not; [`ErrorKind::GateClosed`] when it is not this process's turn.
    pub async fn probe_credentials(&self) -> Result<(), Error> {
        let operation = Operation::GetAccounts;
        let permit = self.permit_for_probe(operation, Instant::now() + PATIENCE);
        match self.get_accounts(permit.await?).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::Forbidden) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::memory::{Answer, Memory};
    use crate::klaviyo::{BudgetScale, ClosedBy, LocalBudget, Settings};
    use std::sync::Arc;

    const OPERATION: Operation = Operation::CreateEvent;

    /// A client whose key was refused just now.
    async fn refused() -> (Client, Memory) {
        let memory = Memory::new();
        let settings = Settings::new("https://a.klaviyo.com".parse().unwrap(), "pk_old".into());
        let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
        let client = Client::with_transport(settings, budget, Arc::new(memory.clone())).unwrap();
        memory.answer(Answer::new(401, ""));
        client.probe_credentials().await.unwrap_err();
        (client, memory)
    }

    #[tokio::test(start_paused = true)]
    async fn refused_key_is_asked_about_six_times_a_minute_by_however_many_callers() {
        let (client, memory) = refused().await;
        for _ in 0..100 {
            memory.answer(Answer::new(401, ""));
        }
        let end = Instant::now() + Duration::from_secs(59);
        while Instant::now() < end {
            let callers = (0..9).map(|_| client.probe_credentials());
            for answer in futures::future::join_all(callers).await {
                answer.unwrap_err();
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(memory.requests().len(), 1 + 5);
        assert!(client.credentials_closed().is_some());
    }

    fn is_closed(answer: &Result<(), Error>) -> bool {
        let kind = answer.as_ref().map_err(Error::kind);
        matches!(kind, Err(ErrorKind::GateClosed { .. }))
    }

    #[tokio::test]
    async fn another_key_is_tried_at_once_and_opens_the_gate() {
        let (client, memory) = refused().await;
        assert!(is_closed(&client.probe_credentials().await));
        assert!(!client.replace_key(&"pk_old".into()).unwrap());
        assert!(is_closed(&client.probe_credentials().await));
        assert!(client.replace_key(&"pk_new".into()).unwrap());
        memory.answer(Answer::new(
            200,
            r#"{"data":[{"id":"A1","attributes":{}}]}"#,
        ));
        client.probe_credentials().await.unwrap();
        assert_eq!(client.credentials_closed(), None);
        let key = memory.requests().last().unwrap().headers[AUTHORIZATION].clone();
        assert_eq!(key, "Klaviyo-API-Key pk_new");
    }

    #[tokio::test]
    async fn key_that_may_not_read_the_account_works_and_closes_nothing() {
        let (client, memory) = refused().await;
        client.replace_key(&"pk_new".into()).unwrap();
        memory.answer(Answer::new(403, ""));
        client.probe_credentials().await.unwrap();
        assert_eq!(client.credentials_closed(), None);
        assert_eq!(client.operation_closed(Operation::GetAccounts), None);
    }

    #[tokio::test]
    async fn malformed_key_is_refused_and_the_one_before_stays() {
        let (client, memory) = refused().await;
        assert!(client.replace_key(&"".into()).is_err());
        client.replace_key(&"pk_new".into()).unwrap();
        assert!(client.replace_key(&"pk\n".into()).is_err());
        memory.answer(Answer::new(403, ""));
        client.probe_credentials().await.unwrap();
        let key = memory.requests().last().unwrap().headers[AUTHORIZATION].clone();
        assert_eq!(key, "Klaviyo-API-Key pk_new");
    }

    #[tokio::test]
    async fn with_a_wrong_key_one_call_is_refused_however_many_start_at_once() {
        let memory = Memory::new();
        let settings = Settings::new("https://a.klaviyo.com".parse().unwrap(), "pk_bad".into());
        let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
        let client = Client::with_transport(settings, budget, Arc::new(memory.clone())).unwrap();
        let first = client.try_permit(Operation::GetAccounts).unwrap();
        for operation in Operation::ALL {
            assert!(client.try_permit(operation).is_none());
        }
        memory.answer(Answer::new(401, ""));
        client.get_accounts(first).await.unwrap_err();
        assert_eq!(client.closed(OPERATION).unwrap().0, ClosedBy::Credentials);
        assert_eq!(memory.requests().len(), 1);
    }

    #[tokio::test]
    async fn overloaded_klaviyo_that_says_how_long_is_left_alone_so_long() {
        let (client, memory) = refused().await;
        client.replace_key(&"pk_new".into()).unwrap();
        memory.answer(Answer::new(403, ""));
        client.probe_credentials().await.unwrap();
        memory.answer(Answer::with_headers(503, &[("retry-after", "20")], ""));
        let permit = client.try_permit(OPERATION).unwrap();
        client
            .write(permit, OPERATION, bytes::Bytes::new())
            .await
            .unwrap_err();
        let (by, until) = client.closed(OPERATION).unwrap();
        assert_eq!(by, ClosedBy::RetryAfter);
        assert!(until > Instant::now() + Duration::from_secs(19));
        assert_eq!(client.closed(Operation::BulkCreateEvents), None);
    }

    #[tokio::test]
    async fn tripped_breaker_closes_its_group_and_says_so() {
        let (client, memory) = refused().await;
        client.replace_key(&"pk_new".into()).unwrap();
        memory.answer(Answer::new(403, ""));
        client.probe_credentials().await.unwrap();
        while let Some(permit) = client.try_permit(OPERATION) {
            memory.answer(Answer::new(500, ""));
            client
                .write(permit, OPERATION, bytes::Bytes::new())
                .await
                .unwrap_err();
        }
        assert_eq!(client.closed(OPERATION).unwrap().0, ClosedBy::Breaker);
        let of_group = client.closed(Operation::BulkCreateEvents).unwrap();
        assert_eq!(of_group.0, ClosedBy::Breaker);
        assert_eq!(client.closed(Operation::GetAccounts), None);
    }
}
