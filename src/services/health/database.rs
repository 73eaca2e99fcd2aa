//! How the database is: whether it answers, and whether its tables are those of this version.

use super::Part;
use crate::services::Outage;
use crate::store::{Database, Error, State};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::time::timeout;

/// How long `doctor` waits for the database.
const PATIENCE: Duration = Duration::from_secs(5);

const DATABASE: &str = "database";

/// What `doctor` says about the database. It is looked at, never created or changed.
pub async fn doctor_database(url: &SecretString) -> Part {
    let url = url.expose_secret();
    let kind = if url.starts_with("sqlite:") {
        "SQLite"
    } else {
        "PostgreSQL"
    };
    let look = async {
        let database = Database::look(url).await?;
        let migrations = database.migrations().await;
        database.close().await;
        migrations
    };
    let migrations = match timeout(PATIENCE, look).await {
        Ok(Ok(migrations)) => migrations,
        Ok(Err(error)) => return unreachable(kind, &error),
        Err(_) => {
            return Part::bad(
                DATABASE,
                format!("{kind} does not answer within {} s", PATIENCE.as_secs()),
                "check KLAVIYOD_DATABASE_URL and that the server runs",
            );
        }
    };
    let pending = migrations
        .iter()
        .filter(|it| it.state == State::Pending)
        .count();
    if pending == 0 {
        return Part::ok(
            DATABASE,
            format!("{kind} answers, its tables are up to date"),
        );
    }
    Part::bad(
        DATABASE,
        format!("{kind} lacks {pending} migrations of this version"),
        "run `klaviyod migrate`",
    )
}

/// What a running daemon says about the database. Without it delivery goes on, so it turns no traffic away.
pub(super) fn ready_database(outage: &Outage) -> Part {
    match outage.away_for() {
        None => Part::ok(DATABASE, "takes the audit"),
        Some(away) => Part::warn(
            DATABASE,
            format!(
                "away for {} s; delivery goes on, and the audit waits in memory",
                away.as_secs()
            ),
            "check KLAVIYOD_DATABASE_URL and that the server runs",
        ),
    }
}

fn unreachable(kind: &str, error: &Error) -> Part {
    // The cause may be an address, but never a password: only its kind is told.
    if kind == "SQLite" && error.is_unreachable() {
        return Part::warn(
            DATABASE,
            "there is no SQLite file that can be opened at KLAVIYOD_DATABASE_URL",
            "run `klaviyod migrate` to create it, or check the folder and its rights",
        );
    }
    Part::bad(
        DATABASE,
        format!("{kind} cannot be asked: {error}"),
        "check KLAVIYOD_DATABASE_URL, that the server runs, and that the user may read",
    )
}
