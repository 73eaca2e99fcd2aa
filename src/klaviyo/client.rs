//! The client: one method per operation, named as Klaviyo names it, one pipeline for all.
//!
//! It sends a call once. Whether and when to try again is the caller's to decide, who awaits a
//! permit before the document is built, so that a call that had to wait leaves with all that has
//! arrived meanwhile. An unused permit may be dropped at any time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use tokio::time::Instant;
use url::Url;

use super::answer::{self, Account, ImportErrors, ImportJob, Upserted};
use super::barriers::{Barriers, Way};
use super::budget::{Budget, BudgetStatus, Permit, WaitReason};
use super::calls::{CallCounts, Calls};
use super::error::{Error, ErrorKind, NoAnswer};
use super::events::{BulkEvents, Event, event_document};
use super::fleet::{Alone, Fleet};
use super::gate::{LOCKED, Outcome, Pass};
use super::observe::Observer;
use super::operation::Operation;
use super::profiles::{BulkProfiles, ProfileDocument, profile_document};
use super::rate_limit::RateLimitHeaders;
use super::settings::{Settings, SetupError};
use super::status::{classify, outcomes};
use super::transport::{HttpTransport, Request, Response, Transport, TransportError};
use super::trouble::Troubles;

/// A refusal shorter than this is waited out within [`Client::permit`].
const SHORT: Duration = Duration::from_millis(250);
/// How long a 429 without `Retry-After` closes its operation.
const RATE_LIMITED: Duration = Duration::from_secs(1);

/// A client of one account.
#[derive(Debug)]
pub struct Client {
    pub(super) settings: Settings,
    pub(super) headers: Mutex<HeaderMap>,
    transport: Arc<dyn Transport>,
    pub(super) budget: Arc<dyn Budget>,
    pub(super) barriers: Barriers,
    pub(super) troubles: Troubles,
    calls: Calls,
    observer: Option<Arc<dyn Observer>>,
}

impl Client {
    /// Creates a client that calls over the network.
    ///
    /// # Errors
    /// [`SetupError`] when the settings cannot work.
    pub fn new(settings: Settings, budget: Arc<dyn Budget>) -> Result<Self, SetupError> {
        let transport = Arc::new(HttpTransport::new(&settings)?);
        Self::with_transport(settings, budget, transport)
    }

    /// Creates a client that calls through `transport`.
    ///
    /// # Errors
    /// [`SetupError`] when the settings cannot work.
    pub fn with_transport(
        settings: Settings,
        budget: Arc<dyn Budget>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, SetupError> {
        settings.check_base_url()?;
        let headers = settings.headers()?;
        let barriers = Barriers::new(&settings, &(Arc::new(Alone) as Arc<dyn Fleet>));
        Ok(Self {
            headers: Mutex::new(headers),
            transport,
            budget,
            barriers,
            troubles: Troubles::default(),
            calls: Calls::default(),
            observer: None,
            settings,
        })
    }

    /// Shares gates and breaker with other daemons of the account.
    #[must_use]
    pub fn with_fleet(mut self, fleet: &Arc<dyn Fleet>) -> Self {
        self.barriers = Barriers::new(&self.settings, fleet);
        self
    }

    /// Lets somebody hear what became of every call.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Waits until a call of `operation` may leave. Dropping the future takes nothing.
    ///
    /// # Errors
    /// At once, with [`ErrorKind::GateClosed`], [`ErrorKind::BreakerOpen`] or
    /// [`ErrorKind::BudgetSpent`], when that is not before `deadline`.
    pub async fn permit(&self, operation: Operation, deadline: Instant) -> Result<Permit, Error> {
        self.permit_through(Way::Gates, operation, deadline).await
    }

    /// Waits as [`Client::permit`] does, and passes by the gate of the operation itself.
    pub(super) async fn permit_for_probe(
        &self,
        operation: Operation,
        deadline: Instant,
    ) -> Result<Permit, Error> {
        self.permit_through(Way::PastOwnGate, operation, deadline)
            .await
    }

    async fn permit_through(
        &self,
        way: Way,
        operation: Operation,
        deadline: Instant,
    ) -> Result<Permit, Error> {
        loop {
            let refused = match self.barriers.check(operation, way) {
                Ok(()) => {
                    // Nobody holds a probe while waiting for the budget: gates come again after.
                    let permit = self
                        .budget
                        .take(operation, deadline)
                        .await
                        .map_err(|wait| {
                            let kind = ErrorKind::BudgetSpent {
                                until: wait.until,
                                reason: wait.reason,
                            };
                            Error::new(operation, kind)
                        })?;
                    match self.barriers.passes(operation, way) {
                        Ok(passes) => return Ok(permit.with_passes(passes)),
                        Err(refused) => refused,
                    }
                }
                Err(refused) => refused,
            };
            match refused {
                ErrorKind::BreakerOpen { until } | ErrorKind::GateClosed { until, .. }
                    if until <= deadline && until <= Instant::now() + SHORT =>
                {
                    tokio::time::sleep_until(until).await;
                }
                refused => return Err(Error::new(operation, refused)),
            }
        }
    }

    /// Returns a permit if a call of `operation` may leave right now.
    pub fn try_permit(&self, operation: Operation) -> Option<Permit> {
        self.barriers.check(operation, Way::Gates).ok()?;
        let permit = self.budget.try_take(operation)?;
        let passes = self.barriers.passes(operation, Way::Gates).ok()?;
        Some(permit.with_passes(passes))
    }

    /// Records one event, at any later time, for 202 is no promise. Safe to repeat.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the event can never be recorded.
    pub async fn create_event(&self, permit: Permit, event: &Event<'_>) -> Result<(), Error> {
        self.write(permit, Operation::CreateEvent, event_document(event))
            .await
            .map(drop)
    }

    /// Records up to 1,000 events, or none. Safe to repeat, for each has its `unique_id`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], often with a pointer for
    /// [`row_of_pointer`](super::row_of_pointer).
    pub async fn bulk_create_events(&self, permit: Permit, body: BulkEvents) -> Result<(), Error> {
        self.write(permit, Operation::BulkCreateEvents, body.into_bytes())
            .await
            .map(drop)
    }

    /// Creates or updates one profile. Safe to repeat.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], and [`ErrorKind::Conflict`] when the identifiers belong to several.
    pub async fn create_or_update_profile(
        &self,
        permit: Permit,
        profile: &ProfileDocument<'_>,
    ) -> Result<Upserted, Error> {
        let operation = Operation::CreateOrUpdateProfile;
        let response = self
            .write(permit, operation, profile_document(profile))
            .await?;
        readable(operation, answer::upserted(&response))
    }

    /// Starts an import of up to 10,000 profiles. Repeating it starts another one.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], often with a pointer for
    /// [`row_of_pointer`](super::row_of_pointer).
    pub async fn bulk_import_profiles(
        &self,
        permit: Permit,
        body: BulkProfiles,
    ) -> Result<ImportJob, Error> {
        let operation = Operation::BulkImportProfiles;
        let response = self.write(permit, operation, body.into_bytes()).await?;
        readable(operation, answer::import_job(&response))
    }

    /// Returns how far an import is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] once the import has expired, after seven days.
    pub async fn get_bulk_import_profiles_job(
        &self,
        permit: Permit,
        id: &str,
    ) -> Result<ImportJob, Error> {
        let operation = Operation::GetBulkImportProfilesJob;
        let response = self.read(permit, operation, id, None).await?;
        readable(operation, answer::import_job(&response))
    }

    /// Returns a page of an import's refused rows; `next` is what the page before said.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] once the import has expired, after seven days.
    pub async fn get_errors_for_bulk_import_profiles_job(
        &self,
        permit: Permit,
        id: &str,
        next: Option<&str>,
    ) -> Result<ImportErrors, Error> {
        let operation = Operation::GetErrorsForBulkImportProfilesJob;
        // Only the query of the link is followed: its host and path could be anybody's.
        let query = match next {
            None => "page%5Bsize%5D=100",
            Some(link) => link.split_once('?').map_or("", |(_, query)| query),
        };
        let response = self.read(permit, operation, id, Some(query)).await?;
        readable(operation, answer::import_errors(&response))
    }

    /// Returns the account that the key belongs to.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] when the key is wrong.
    pub async fn get_accounts(&self, permit: Permit) -> Result<Account, Error> {
        let operation = Operation::GetAccounts;
        let response = self.read(permit, operation, "", None).await?;
        readable(operation, answer::account(&response))
    }

    /// Returns how many calls each operation made, and what came of them.
    pub fn calls(&self) -> Vec<(Operation, CallCounts)> {
        self.calls.snapshot()
    }

    /// Returns the state of an operation's budget.
    pub fn budget(&self, operation: Operation) -> BudgetStatus {
        self.budget.status(operation)
    }

    pub(super) async fn write(
        &self,
        permit: Permit,
        operation: Operation,
        body: Bytes,
    ) -> Result<Response, Error> {
        self.call(permit, operation, self.url(operation, ""), body)
            .await
    }

    async fn read(
        &self,
        permit: Permit,
        operation: Operation,
        id: &str,
        query: Option<&str>,
    ) -> Result<Response, Error> {
        let mut url = self.url(operation, id);
        url.set_query(query);
        self.call(permit, operation, url, Bytes::new()).await
    }

    async fn call(
        &self,
        permit: Permit,
        operation: Operation,
        url: Url,
        body: Bytes,
    ) -> Result<Response, Error> {
        assert_eq!(
            permit.operation(),
            operation,
            "a permit is for one operation"
        );
        // The permit may be older than a pause that Klaviyo has asked for since.
        let closed = self.budget.status(operation).closed_until;
        if let Some(until) = closed.filter(|until| *until > Instant::now()) {
            let reason = WaitReason::Closed;
            return Err(Error::new(
                operation,
                ErrorKind::BudgetSpent { until, reason },
            ));
        }
        let request = Request {
            method: operation.method(),
            url,
            headers: self.headers.lock().expect(LOCKED).clone(),
            body,
            timeout: self.settings.call_timeout,
            response_bytes_max: self.settings.answer_bytes_max(operation),
        };
        let passes = permit.spend();
        self.calls.count_sent(operation);
        let started = Instant::now();
        let sent = self.transport.send(request);
        let answered = tokio::time::timeout(self.settings.call_timeout, sent).await;
        let answered = answered.unwrap_or(Err(TransportError::NoAnswer {
            why: NoAnswer::Timeout,
            source: None,
        }));
        if let Some(observer) = &self.observer {
            let status = answered.as_ref().ok().map(|it| it.status.as_u16());
            observer.answered(operation, status, started.elapsed());
        }
        self.learn(operation, passes, answered)
    }

    /// Tells counters, gates and budget what an answer means to them, and the caller the rest.
    fn learn(
        &self,
        operation: Operation,
        passes: Vec<Pass>,
        answered: Result<Response, TransportError>,
    ) -> Result<Response, Error> {
        let status = answered
            .as_ref()
            .ok()
            .map(|response| response.status.as_u16());
        self.calls.count_answer(operation, status);
        let meaning = match &answered {
            // It did answer, only too much.
            Err(TransportError::AnswerTooLong) => outcomes(Some(300)),
            _ => outcomes(status),
        };
        let [.., of_breaker] = meaning;
        let has_probed_in_vain =
            passes.last().is_some_and(Pass::is_probe) && of_breaker != Outcome::Good;
        for (pass, outcome) in passes.into_iter().zip(meaning) {
            pass.settle(outcome);
        }
        let next_probe = has_probed_in_vain.then(|| {
            let breaker = &self.barriers.breaker;
            breaker.next_probe(operation.group(), Instant::now())
        });
        let failed = |kind| Error::new(operation, kind).of_probe(next_probe);
        self.troubles.note(operation, status, meaning);
        let response = answered.map_err(|error| {
            failed(match error {
                TransportError::AnswerTooLong => ErrorKind::BadAnswer,
                TransportError::NoAnswer { why, source } => ErrorKind::NoAnswer { why, source },
            })
        })?;
        let verdict = classify(&response);
        match &verdict {
            Err(ErrorKind::RateLimited { retry_after }) => {
                let asked = retry_after.unwrap_or(RATE_LIMITED).max(RATE_LIMITED);
                self.budget.close(operation, asked);
            }
            Err(ErrorKind::Unavailable {
                retry_after: Some(asked),
                ..
            }) => self.budget.close(operation, *asked),
            _ => self
                .budget
                .observe(operation, &RateLimitHeaders::parse(&response.headers)),
        }
        verdict.map(|()| response).map_err(failed)
    }

    fn url(&self, operation: Operation, id: &str) -> Url {
        let mut url = self.settings.base_url.clone();
        let mut segments = url
            .path_segments_mut()
            .expect("http and https addresses have a path");
        segments.pop_if_empty();
        for part in operation.path().split('/').skip(1) {
            segments.push(if part == "{id}" { id } else { part });
        }
        drop(segments);
        url
    }
}

fn readable<T>(operation: Operation, read: Option<T>) -> Result<T, Error> {
    read.ok_or_else(|| Error::new(operation, ErrorKind::BadAnswer))
}
