//! How requests travel. It knows HTTP and its limits, and nothing of what is asked.
//!
//! Redirects are refused, because they would carry the key elsewhere. Answers are not
//! decompressed, so what we count is what was sent. The cap holds while the body streams in:
//! `Content-Length` may be absent or a lie.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use url::Url;

use super::error::NoAnswer;
use super::settings::{Settings, SetupError};

/// Sends one request and brings one answer.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends the request, once.
    ///
    /// # Errors
    /// [`TransportError`] when there is no whole answer.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>>;
}

/// A request. Its headers hold the key, marked as sensitive; its body holds personal data.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// All headers.
    pub headers: HeaderMap,
    /// The document; empty for reads.
    pub body: Bytes,
    /// The longest time for everything.
    pub timeout: Duration,
    /// The longest answer that is read.
    pub response_bytes_max: usize,
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.url.path())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A whole answer.
#[derive(Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, often empty.
    pub body: Bytes,
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The answer is longer than we read.
    #[error("the answer is too long")]
    AnswerTooLong,
    /// There was none.
    #[error("there was no answer: {why}")]
    NoAnswer {
        /// What is known about it.
        why: NoAnswer,
        /// The cause, without the address.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// The transport over the network.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    http: reqwest::Client,
}

impl HttpTransport {
    /// Creates a transport that keeps connections alive between calls.
    ///
    /// # Errors
    /// [`SetupError::Transport`] when TLS cannot start.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.call_timeout)
            .redirect(reqwest::redirect::Policy::none())
            // Calls are repeated in one place, and it is not here.
            .retry(reqwest::retry::never())
            .referer(false)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_mins(1));
        if settings.is_loopback() {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(SetupError::Transport)?;
        Ok(Self { http })
    }

    async fn exchange(&self, request: Request) -> Result<Response, TransportError> {
        let bytes_max = request.response_bytes_max;
        let mut outgoing = reqwest::Request::new(request.method, request.url);
        *outgoing.headers_mut() = request.headers;
        *outgoing.timeout_mut() = Some(request.timeout);
        if !request.body.is_empty() {
            *outgoing.body_mut() = Some(request.body.into());
        }
        let mut incoming = self.http.execute(outgoing).await.map_err(no_answer)?;
        let declared = incoming.content_length().unwrap_or(0);
        if usize::try_from(declared).is_ok_and(|declared| declared > bytes_max) {
            return Err(TransportError::AnswerTooLong);
        }
        // Joined only when all is there: an answer that grows beyond the cap costs no more memory than the cap.
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        while let Some(chunk) = incoming.chunk().await.map_err(no_answer)? {
            bytes += chunk.len();
            if bytes > bytes_max {
                return Err(TransportError::AnswerTooLong);
            }
            chunks.push(chunk);
        }
        let headers = std::mem::take(incoming.headers_mut());
        Ok(Response {
            status: incoming.status(),
            headers,
            body: joined(chunks),
        })
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(self.exchange(request))
    }
}

/// Most answers are one chunk, which is not copied.
fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.len() {
        0 | 1 => chunks.pop().unwrap_or_default(),
        _ => chunks.concat().into(),
    }
}

fn no_answer(error: reqwest::Error) -> TransportError {
    let why = if error.is_connect() {
        NoAnswer::Connect
    } else if error.is_timeout() {
        NoAnswer::Timeout
    } else {
        NoAnswer::Cut
    };
    TransportError::NoAnswer {
        why,
        source: Some(Box::new(error.without_url())),
    }
}
