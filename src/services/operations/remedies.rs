//! Every error code: what it means, who acts, what to do. The only list there is; `docs/errors.md` shows the same.
//!
//! A code is stable: alerts and scripts name it. A test finds every code in the sources and looks for it here.

/// Who must act before a job with this code can be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acts {
    /// Whoever writes the application that enqueues.
    Developer,
    /// Whoever runs the daemon.
    Operator,
    /// Klaviyo; it may be told through its support.
    Klaviyo,
    /// Nobody: it passes.
    Nobody,
}

/// What is known about an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The stable code.
    pub code: &'static str,
    /// What happened.
    pub meaning: &'static str,
    /// Who acts.
    pub acts: Acts,
    /// What to do, in one sentence.
    pub remedy: &'static str,
}

/// The code of a job that the engine alone may write and somebody else wrote.
pub(super) const INTERNAL_FROM_OUTSIDE: &str = "job.unknown_kind";

const fn code(
    code: &'static str,
    meaning: &'static str,
    acts: Acts,
    remedy: &'static str,
) -> Remedy {
    Remedy {
        code,
        meaning,
        acts,
        remedy,
    }
}

/// Alphabetical.
static REMEDIES: &[Remedy] = &[
    code(
        "job.expired",
        "Its `expires_at` was over before it could be delivered.",
        Acts::Developer,
        "Discard it, or give it a later `expires_at` with `dlq edit` and replay it if it still matters.",
    ),
    code(
        "job.internal",
        "The daemon cannot make sense of a job of its own, such as the follow-up of an import.",
        Acts::Operator,
        "Report it as a bug with the output of `dlq show`; replay it with a version that mends it.",
    ),
    code(
        "job.invalid",
        "A value breaks a rule; the pointer says which.",
        Acts::Developer,
        "Mend the application, then `dlq edit` and replay what is dead.",
    ),
    code(
        "job.missing_field",
        "A required field is not there; the pointer says which.",
        Acts::Developer,
        "Mend the application, then `dlq edit` and replay what is dead.",
    ),
    code(
        "job.no_job_field",
        "The stream entry has no field `job`.",
        Acts::Developer,
        "Write entries as `XADD <queue> * job '<json>'`, and discard this one: there is nothing to replay.",
    ),
    code(
        "job.not_json",
        "The job is not a JSON object in UTF-8.",
        Acts::Developer,
        "Mend the application's encoder, then replace the job with `dlq edit --job` and replay it.",
    ),
    code(
        "job.too_large",
        "The job has more than 5 MB, the most that Klaviyo takes in one call.",
        Acts::Developer,
        "Send less in one job, and discard this one or replace it with `dlq edit --job`.",
    ),
    code(
        "job.unknown_field",
        "`data` has a field that its kind does not know; the detail names the nearest.",
        Acts::Developer,
        "Correct the name (`klaviyod schema KIND`), then `dlq edit` and replay what is dead.",
    ),
    code(
        "job.unknown_kind",
        "No kind has this name, or only the daemon itself may enqueue it.",
        Acts::Developer,
        "Correct the name, or run a version that knows the kind and replay.",
    ),
    code(
        "job.wrong_queue",
        "The kind belongs on another queue.",
        Acts::Developer,
        "Enqueue it on the queue the detail names; `dlq replay` moves what is dead there.",
    ),
    code(
        "keys.account",
        "The name of an account would break the keys in Redis; nothing was enqueued.",
        Acts::Developer,
        "Use 1 to 64 characters of a-z, 0-9, _ and -.",
    ),
    code(
        "keys.prefix",
        "The prefix would break the keys in Redis; nothing was enqueued.",
        Acts::Developer,
        "Use printable ASCII without spaces and braces.",
    ),
    code(
        "klaviyo.bad_answer",
        "Klaviyo accepted the call, but its answer could not be read until attempts or age were used up.",
        Acts::Klaviyo,
        "Replay it: events keep their `unique_id`; upserts say the same again, also where something newer was sent since.",
    ),
    code(
        "klaviyo.breaker_tripped",
        "Klaviyo failed so often that it is left in peace for a while; the job waits and no attempt counts.",
        Acts::Nobody,
        "Wait: delivery resumes by itself when a probe succeeds.",
    ),
    code(
        "klaviyo.budget_spent",
        "The account's limit for this operation is used up; the job waits and no attempt counts.",
        Acts::Nobody,
        "Wait; for good, ask Klaviyo for a higher limit or enqueue less.",
    ),
    code(
        "klaviyo.conflict",
        "Klaviyo has something that excludes this, mostly a profile that owns the identifier already (409).",
        Acts::Developer,
        "Find the other profile at Klaviyo, correct the identifier with `dlq edit` or merge the two, then replay.",
    ),
    code(
        "klaviyo.forbidden",
        "The key lacks a scope or the plan lacks a feature (403); the operation waits and no attempt counts.",
        Acts::Operator,
        "Make a new key that has the scope, for an existing one cannot get it, and give it to the daemon: its file and SIGHUP, or a restart. The jobs go on within a minute.",
    ),
    code(
        "klaviyo.gate_closed",
        "A person must act before this operation is called again; the job waits and no attempt counts.",
        Acts::Operator,
        "See the alert: `klaviyo.unauthorized`, `klaviyo.forbidden` or `klaviyo.refused` came before it.",
    ),
    code(
        "klaviyo.import_cancelled",
        "Klaviyo accepted the import and cancelled it later.",
        Acts::Klaviyo,
        "Replay it unless newer changes of the same profiles were sent since: an upsert says the same again, and repeats its `append`.",
    ),
    code(
        "klaviyo.import_refused",
        "Klaviyo accepted the import and refused this row later; the detail says why.",
        Acts::Developer,
        "Correct what the detail names with `dlq edit`, replay it, and mend the application.",
    ),
    code(
        "klaviyo.import_unfinished",
        "Klaviyo accepted the import and had not ended it after 7 days; whether its rows were applied is unknown.",
        Acts::Operator,
        "Ask Klaviyo about the import that the detail names; when it has ended, `dlq replay --include-too-old` reads its result.",
    ),
    code(
        "klaviyo.invalid",
        "Klaviyo refuses what the job says (400); the detail and the pointer are Klaviyo's.",
        Acts::Developer,
        "Correct what the detail names with `dlq edit`, replay it, and mend the application.",
    ),
    code(
        "klaviyo.no_answer",
        "No connection, or no answer in time, until attempts or age were used up; whether Klaviyo did it is unknown.",
        Acts::Operator,
        "See that the daemon reaches Klaviyo, then replay: events keep their `unique_id`, so none counts twice.",
    ),
    code(
        "klaviyo.not_found",
        "What the job speaks about does not exist at Klaviyo (404).",
        Acts::Developer,
        "Correct the id with `dlq edit` or create the object at Klaviyo, then replay.",
    ),
    code(
        "klaviyo.rate_limited",
        "Klaviyo asked to wait (429); the job waits and no attempt counts.",
        Acts::Nobody,
        "Wait; if it happens often, another integration uses the account: raise `klaviyo.reserve`.",
    ),
    code(
        "klaviyo.refused",
        "Klaviyo does not take this operation so any more (405, 410, 415); it waits and no attempt counts.",
        Acts::Operator,
        "Update klaviyod or set `klaviyo.revision`; the jobs go on by themselves.",
    ),
    code(
        "klaviyo.too_large",
        "Klaviyo finds a single job too large (413).",
        Acts::Developer,
        "Send less in one job; shorten this one with `dlq edit` and replay it, or discard it.",
    ),
    code(
        "klaviyo.unauthorized",
        "The private key is wrong or revoked (401); everything of the account waits and no attempt counts.",
        Acts::Operator,
        "Give the daemon a key that works; the jobs go on by themselves.",
    ),
    code(
        "klaviyo.unavailable",
        "Klaviyo failed (5xx, 408) until attempts or age were used up.",
        Acts::Klaviyo,
        "Replay when status.klaviyo.com is green again.",
    ),
    code(
        "klaviyo.unexpected",
        "Klaviyo, or something in between, answered what it does not document, until attempts or age were used up.",
        Acts::Operator,
        "Look for a proxy or a wrong `klaviyo.base_url`, then replay.",
    ),
    code(
        "poison",
        "The job took several processes down while it ran alone.",
        Acts::Operator,
        "Report it as a bug with the output of `dlq show`; do not replay it before it is mended.",
    ),
    code(
        "worker.abandoned",
        "The handler ended without a verdict, mostly by a panic, until attempts or age were used up.",
        Acts::Operator,
        "Report the panic in the log as a bug; replay it with a version that mends it.",
    ),
];

/// Returns all codes, in alphabetical order.
pub fn remedies() -> &'static [Remedy] {
    REMEDIES
}

/// Finds what is known about a code.
pub fn find(code: &str) -> Option<&'static Remedy> {
    REMEDIES.iter().find(|remedy| remedy.code == code)
}

/// Returns what to do about a code, also about one of a newer version.
pub fn remedy(code: &str) -> &'static str {
    find(code).map_or(
        "See `klaviyod dlq show` for its detail; this version does not know the code.",
        |remedy| remedy.remedy,
    )
}

impl Remedy {
    /// Returns where the code is explained.
    pub fn doc(&self) -> String {
        let family = self.code.split('.').next().unwrap_or(self.code);
        format!("docs/errors.md#{family}")
    }
}

impl Acts {
    /// Returns who that is.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Developer => "application developer",
            Self::Operator => "operator",
            Self::Klaviyo => "Klaviyo",
            Self::Nobody => "nobody",
        }
    }
}
