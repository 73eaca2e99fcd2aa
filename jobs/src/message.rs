//! A job that is ready to be enqueued: checked, encoded and routed.
//!
//! Everything that can be wrong with a job is found here, before Redis is asked. A message always carries `id` and
//! `at`, so that a retry or a replay can never change them.

use crate::envelope::{JOB_BYTES_MAX, Written};
use crate::invalid::{Invalid, code};
use crate::value::check_id;
use crate::{Envelope, Job, KindInfo, Lane, kind};
use jiff::Timestamp;
use serde::Serialize;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long an id is claimed for kinds that are unique by default.
pub const UNIQUE_FOR_DEFAULT: Duration = Duration::from_hours(1);

/// What a producer may say about a job beside its payload.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The job's identifier, 1 to 255 characters; absent, a random one is made.
    pub id: Option<String>,
    /// When it happened; absent, now.
    pub at: Option<Timestamp>,
    /// Not before this; absent or past, at once.
    pub run_at: Option<Timestamp>,
    /// The lane of the queue.
    pub lane: Lane,
    /// How long a repeat of the id is refused. Absent: an hour for kinds that are unique by default, else not at all.
    /// Zero: not at all.
    pub unique_for: Option<Duration>,
    /// The W3C `traceparent` of the caller.
    pub trace: Option<String>,
    /// After this the job is not worth delivering.
    pub expires_at: Option<Timestamp>,
}

/// A job that is ready to be enqueued.
#[derive(Clone)]
pub struct Message {
    pub(crate) id: String,
    pub(crate) queue: &'static str,
    pub(crate) lane: Lane,
    pub(crate) run_at: Option<Timestamp>,
    pub(crate) claim: Option<Claim>,
    pub(crate) json: Vec<u8>,
}

/// What is claimed, and for how long.
#[derive(Clone)]
pub(crate) struct Claim {
    pub(crate) text: String,
    pub(crate) lasts: Duration,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Message({}, {} bytes)",
            self.queue,
            self.json.len()
        )
    }
}

impl Message {
    /// Checks and encodes a job.
    ///
    /// # Errors
    /// [`Invalid`] if the job or an option is not acceptable.
    pub fn new<J: Job>(job: &J, options: &Options) -> Result<Self, Invalid> {
        let now = Timestamp::now();
        let at = options.at.unwrap_or(now);
        job.validate(at, now)?;
        let id = match &options.id {
            Some(id) => checked_id(id)?,
            None => random_id(),
        };
        let json = encode(&Written {
            kind: J::KIND,
            id: &id,
            at,
            trace: options.trace.as_deref(),
            expires_at: options.expires_at,
            data: job,
        })?;
        let claim = options
            .id
            .as_ref()
            .and_then(|id| claim(job.claim(id), J::UNIQUE_BY_DEFAULT, options));
        Ok(Self {
            id,
            queue: J::QUEUE,
            lane: options.lane,
            run_at: run_at(options, now),
            claim,
            json,
        })
    }

    /// Checks a whole job in JSON; the options win over what it says. Its `data` is passed on byte for byte;
    /// envelope fields that this version does not know are left out.
    ///
    /// # Errors
    /// [`Invalid`] if the job or an option is not acceptable.
    pub fn from_json(json: &[u8], options: &Options) -> Result<Self, Invalid> {
        let mut envelope = Envelope::parse(json)?;
        let info: &KindInfo = kind(&envelope.kind)?;
        let now = Timestamp::now();
        if let Some(id) = &options.id {
            envelope.id = Some(checked_id(id)?.into());
        }
        envelope.at = Some(options.at.or(envelope.at).unwrap_or(now));
        let checked = (info.check)(&envelope, now)?;
        let id = envelope.id.map_or_else(random_id, String::from);
        let encoded = encode(&Written {
            kind: info.kind,
            id: &id,
            at: envelope.at.unwrap_or(now),
            trace: options.trace.as_deref().or(envelope.trace.as_deref()),
            expires_at: options.expires_at.or(envelope.expires_at),
            data: envelope.data,
        })?;
        let claim = checked
            .claim
            .and_then(|text| claim(text, info.unique_by_default, options));
        Ok(Self {
            id,
            queue: info.queue,
            lane: options.lane,
            run_at: run_at(options, now),
            claim,
            json: encoded,
        })
    }

    /// Returns the job's identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the queue it will stand on.
    pub fn queue(&self) -> &'static str {
        self.queue
    }

    /// Whether its id is claimed, so that a repeat is a duplicate instead of a second job.
    pub fn is_claimed(&self) -> bool {
        self.claim.is_some()
    }

    /// Returns the whole job in JSON.
    pub fn json(&self) -> &[u8] {
        &self.json
    }
}

fn checked_id(id: &str) -> Result<String, Invalid> {
    check_id(id).map_err(|rule| Invalid::at("/id", format!("`id` {rule}")))?;
    Ok(id.to_owned())
}

fn run_at(options: &Options, now: Timestamp) -> Option<Timestamp> {
    options.run_at.filter(|due| *due > now)
}

fn claim(text: String, unique_by_default: bool, options: &Options) -> Option<Claim> {
    let lasts = match options.unique_for {
        Some(lasts) => lasts,
        None if unique_by_default => UNIQUE_FOR_DEFAULT,
        None => Duration::ZERO,
    };
    if lasts.is_zero() {
        None
    } else {
        Some(Claim { text, lasts })
    }
}

fn encode<D: Serialize + ?Sized>(written: &Written<'_, D>) -> Result<Vec<u8>, Invalid> {
    let json = serde_json::to_vec(written)
        .map_err(|_| Invalid::new(code::INVALID, "the job cannot be written as JSON"))?;
    if json.len() > JOB_BYTES_MAX {
        return Err(Invalid::new(
            code::TOO_LARGE,
            "the job is larger than 5 MB; send less in one job",
        ));
    }
    Ok(json)
}

/// Returns 128 random bits in hexadecimal. The standard library's hashers are keyed at random once per process.
pub(crate) fn random_id() -> String {
    static HASHERS: OnceLock<(RandomState, RandomState)> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (high, low) = HASHERS.get_or_init(|| (RandomState::new(), RandomState::new()));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = Timestamp::now().as_nanosecond();
    format!(
        "{:016x}{:016x}",
        high.hash_one((count, now)),
        low.hash_one((count, now))
    )
}
