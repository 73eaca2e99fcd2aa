//! How Klaviyo is towards us: gates and breakers of a running client, and what one call tells a doctor.
//!
//! Gates are looked at, never tried. The surprising thing: the closed gate of an operation stays closed without jobs,
//! for nobody has seen it open.

use super::Part;
use crate::klaviyo::{Client, Closed, ErrorKind, Group, Operation, Trouble};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::time::Duration;
use tokio::time::Instant;

/// How long `doctor` waits for Klaviyo.
const KLAVIYO_PATIENCE: Duration = Duration::from_secs(10);
/// A revision is supported for about two years; this long before its end it is time to move.
const RETIREMENT_NEAR_DAYS: i32 = 180;
/// Klaviyo's clock is told to the second.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(60);
/// What the operations we call need.
const SCOPES: &str =
    "accounts:read, events:write, lists:read, lists:write, profiles:read, profiles:write";

const CREDENTIALS: &str = "klaviyo credentials";
const REVISION: &str = "klaviyo revision";

/// Says how the gates and breakers of an account are.
pub fn klaviyo(account: &str, client: &Client) -> Vec<Part> {
    let mut parts = vec![match client.credentials_closed() {
        None => Part::ok(CREDENTIALS, "no call was refused for its key"),
        Some(closed) => closed_part(
            CREDENTIALS.to_owned(),
            &closed,
            "Klaviyo does not accept the key; every queue of the account waits",
            "put a working key into KLAVIYO_PRIVATE_KEY or its file; see `klaviyod doctor`",
        ),
    }];
    for operation in Operation::ALL {
        if let Some(closed) = client.operation_closed(operation) {
            parts.push(closed_part(
                format!("klaviyo operation {operation}"),
                &closed,
                "Klaviyo does not allow this operation; its jobs wait",
                "give the key the scopes that `klaviyod doctor` lists (a new key is needed), or check the plan",
            ));
        }
    }
    for group in Group::ALL {
        let name = format!("klaviyo breaker {}", group.name());
        parts.push(match client.tripped(group) {
            None => Part::ok(name, "recovered"),
            Some(closed) => closed_part(
                name,
                &closed,
                "tripped: Klaviyo does not answer, or with 5xx; jobs wait and cost no attempt",
                "see https://status.klaviyo.com; it recovers by itself",
            ),
        });
    }
    parts.into_iter().map(|part| part.of(account)).collect()
}

fn closed_part(name: String, closed: &Closed, what: &str, what_to_do: &str) -> Part {
    let wait = closed.until.saturating_duration_since(Instant::now());
    let next = if wait.is_zero() {
        "the next call tries again".to_owned()
    } else {
        format!("the next try is in {} s", wait.as_secs_f64().ceil())
    };
    let cause = match closed.trouble {
        Some(Trouble {
            status: Some(status),
            ..
        }) => format!(" (status {status})"),
        Some(Trouble { status: None, .. }) => " (no answer)".to_owned(),
        None => " (another daemon saw it)".to_owned(),
    };
    Part {
        since: closed.trouble.map(|trouble| trouble.since),
        ..Part::bad(name, format!("{what}{cause}; {next}"), what_to_do)
    }
}

/// Says how long the revision is supported.
pub fn revision(revision: &str, today: Date) -> Part {
    let Some(days) = days_to_retirement(revision, today) else {
        return Part::warn(
            REVISION,
            format!("`{revision}` is not a date"),
            "leave `klaviyo.revision` out to get the one this version is written for",
        );
    };
    let reason = if days < 0 {
        format!("{revision} was retired about {} days ago", -days)
    } else {
        format!("{revision} is supported for about {days} more days")
    };
    let what_to_do = "update klaviyod; `klaviyo.revision` overrides the revision until then";
    match days {
        ..0 => Part::bad(REVISION, reason, what_to_do),
        0..RETIREMENT_NEAR_DAYS => Part::warn(REVISION, reason, what_to_do),
        RETIREMENT_NEAR_DAYS.. => Part::ok(REVISION, reason),
    }
}

/// Counts the days until a revision is two years old; none if it is no date.
pub fn days_to_retirement(revision: &str, today: Date) -> Option<i32> {
    // A pre-release is called `2026-07-15.pre`.
    let date: Date = revision.get(..10)?.parse().ok()?;
    let retired = date.checked_add(2.years()).ok()?;
    today.until(retired).ok().map(|span| span.get_days())
}

/// Says that nobody has seen the scopes of a key: they cannot be probed without writing to the account.
pub fn scopes() -> Part {
    Part::warn(
        "klaviyo scopes",
        "not checked: that would need writing to the account",
        format!(
            "see Settings > API keys at Klaviyo: the key needs {SCOPES}. A missing one shows as 403 on /health/klaviyo"
        ),
    )
}

/// Says that an account has no key.
pub fn key_is_missing() -> Part {
    Part::bad(
        CREDENTIALS,
        "no private key is configured",
        "set KLAVIYO_PRIVATE_KEY or KLAVIYO_PRIVATE_KEY_FILE (or try `klaviyod dev`, which needs none)",
    )
}

/// Asks Klaviyo whose key it is: key, account and clock in one call.
pub async fn ask_klaviyo(client: &Client) -> Vec<Part> {
    let operation = Operation::GetAccounts;
    let deadline = Instant::now() + KLAVIYO_PATIENCE;
    let call = async {
        let permit = client.permit(operation, deadline).await?;
        client.get_accounts(permit).await
    };
    let account = match tokio::time::timeout(KLAVIYO_PATIENCE, call).await {
        Ok(Ok(account)) => account,
        Ok(Err(error)) => return vec![refused(error.kind())],
        Err(_) => return vec![unreachable("no answer within 10 s")],
    };
    let name = account.name.as_deref().unwrap_or("without a name");
    let kind = if account.test_account {
        "test account"
    } else {
        "account"
    };
    let id = &account.id;
    let mut parts = vec![Part::ok(
        CREDENTIALS,
        format!("the key is accepted: {kind} {name} ({id})"),
    )];
    if let Some(answered_at) = account.answered_at {
        parts.push(clock(answered_at, Timestamp::now()));
    }
    parts
}

fn refused(kind: &ErrorKind) -> Part {
    match kind {
        ErrorKind::Unauthorized => Part::bad(
            CREDENTIALS,
            "Klaviyo does not accept the key (401)",
            "create a private key at Klaviyo (Settings > API keys) and put it into KLAVIYO_PRIVATE_KEY or its file",
        ),
        ErrorKind::Forbidden => Part::warn(
            CREDENTIALS,
            "the key is known, and may not read the account (403)",
            "create a key that also has the scope accounts:read, so that this can be checked",
        ),
        ErrorKind::Refused { status: 410 } => Part::bad(
            REVISION,
            "Klaviyo has retired this revision (410)",
            "update klaviyod, or set `klaviyo.revision` to a supported one",
        ),
        ErrorKind::RateLimited { .. } | ErrorKind::BudgetSpent { .. } => Part::warn(
            CREDENTIALS,
            "Klaviyo limits the rate (429): other programs call it with keys of this account",
            "try again in a minute",
        ),
        other => unreachable(&other.to_string()),
    }
}

fn unreachable(why: &str) -> Part {
    Part::bad(
        "klaviyo",
        format!("Klaviyo cannot be asked: {why}"),
        "check KLAVIYOD_KLAVIYO_BASE_URL, the network and https://status.klaviyo.com; jobs wait meanwhile",
    )
}

fn clock(klaviyo: Timestamp, now: Timestamp) -> Part {
    let name = "clock";
    let skew = now.duration_since(klaviyo).abs();
    let reason = format!("differs by {} s from Klaviyo's", skew.as_secs());
    if skew <= SKEW_MAX {
        return Part::ok(name, reason);
    }
    Part::warn(
        name,
        reason,
        "let this machine follow a time server (NTP): jobs without `at` get wrong times",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klaviyo::memory::{Answer, Memory};
    use crate::klaviyo::{BudgetScale, LocalBudget, Settings};
    use crate::services::health::State;
    use jiff::civil::date;
    use std::sync::Arc;

    fn client(answer: Answer) -> Client {
        let memory = Memory::new();
        memory.answer(answer);
        let settings = Settings::new("https://a.klaviyo.com".parse().unwrap(), "pk_1".into());
        let budget = Arc::new(LocalBudget::new(BudgetScale::Off));
        Client::with_transport(settings, budget, Arc::new(memory)).unwrap()
    }

    #[tokio::test]
    async fn a_refused_key_is_bad_for_doctor_and_closes_the_credentials_for_health() {
        let client = client(Answer::new(401, ""));
        assert!(
            klaviyo("default", &client)
                .iter()
                .all(|part| part.state == State::Ok)
        );
        let asked = ask_klaviyo(&client).await;
        assert_eq!(asked[0].state, State::Bad);
        let parts = klaviyo("default", &client);
        assert_eq!(parts[0].state, State::Bad);
        assert!(
            parts[0].since.is_some() && parts[0].reason.contains("401"),
            "{parts:?}"
        );
    }

    #[tokio::test]
    async fn the_doctor_tells_the_account_and_its_clock() {
        let body = r#"{"data":[{"type":"account","id":"X1","attributes":{"test_account":true,
            "contact_information":{"organization_name":"Shop"}}}]}"#;
        let date = [("date", "Fri, 04 Sep 2026 13:38:55 GMT")];
        let parts = ask_klaviyo(&client(Answer::with_headers(200, &date, body))).await;
        assert!(
            parts[0].reason.contains("test account Shop (X1)"),
            "{parts:?}"
        );
        assert_eq!(parts[1].name, "clock");
    }

    #[test]
    fn a_revision_lives_two_years_and_its_end_is_told_in_time() {
        assert_eq!(days_to_retirement("2026-07-15", date(2028, 7, 14)), Some(1));
        assert_eq!(
            days_to_retirement("2026-07-15.pre", date(2028, 7, 16)),
            Some(-1)
        );
        assert_eq!(days_to_retirement("soon", date(2026, 1, 1)), None);
        let state = |today| revision("2026-07-15", today).state;
        assert_eq!(state(date(2026, 11, 24)), State::Ok);
        assert_eq!(state(date(2028, 5, 1)), State::Warn);
        assert_eq!(state(date(2028, 9, 1)), State::Bad);
    }
}
