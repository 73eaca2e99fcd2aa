//! A transport that stays in memory: scripted answers out, recorded requests in.
//!
//! For tests with a paused clock, which a real socket would disturb. Without a script every
//! request is answered 202 with no body.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::error::NoAnswer;
use super::gate::LOCKED;
use super::transport::{Request, Response, Transport, TransportError};

/// One scripted answer.
#[derive(Debug)]
pub enum Answer {
    /// A whole answer.
    Response(Response),
    /// None.
    NoAnswer(NoAnswer),
    /// None, ever: the caller's own limit must end the call.
    Silence,
    /// A whole answer, late.
    Late(Duration, Response),
}

impl Answer {
    /// Creates an answer with a status and a body.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self::with_headers(status, &[], body)
    }

    /// Creates an answer with a status, headers and a body.
    pub fn with_headers(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: impl Into<Bytes>,
    ) -> Self {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        let status = StatusCode::from_u16(status).expect("scripts hold valid statuses");
        Self::Response(Response {
            status,
            headers,
            body: body.into(),
        })
    }
}

/// The transport's twin in memory. Clones share script and record.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    script: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Memory {
    /// Creates a transport with an empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next answer to the script.
    pub fn answer(&self, answer: Answer) {
        self.script.lock().expect(LOCKED).push_back(answer);
    }

    /// Returns all requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect(LOCKED).clone()
    }
}

impl Transport for Memory {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        let bytes_max = request.response_bytes_max;
        self.requests.lock().expect(LOCKED).push(request);
        let answer = self.script.lock().expect(LOCKED).pop_front();
        Box::pin(async move {
            let response = match answer.unwrap_or_else(|| Answer::new(202, "")) {
                Answer::Response(response) => response,
                Answer::NoAnswer(why) => {
                    return Err(TransportError::NoAnswer { why, source: None });
                }
                Answer::Silence => std::future::pending().await,
                Answer::Late(delay, response) => {
                    tokio::time::sleep(delay).await;
                    response
                }
            };
            if response.body.len() > bytes_max {
                return Err(TransportError::AnswerTooLong);
            }
            Ok(response)
        })
    }
}
