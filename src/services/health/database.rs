//! How the database is: whether it answers, and whether its tables are those of this version.

use super::Part;
use crate::queue::{Redis, RedisResult, registered_deployment};
use crate::services::Outage;
use crate::store::{Database, Error, State};
use klaviyo_jobs::Keys;
use secrecy::{ExposeSecret, SecretString};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// How long `doctor` waits for the database.
const PATIENCE: Duration = Duration::from_secs(5);

const DATABASE: &str = "database";

/// What `doctor` says about the database, and whether it is the one Redis belongs to. It is looked at, never created or
/// changed; `migrates` is whether `run` would do that.
pub async fn doctor_database(
    url: &SecretString,
    migrates: bool,
    redis: &Redis,
    accounts: &[Keys],
) -> Vec<Part> {
    let url = url.expose_secret();
    let kind = if url.starts_with("sqlite:") {
        "SQLite"
    } else {
        "PostgreSQL"
    };
    let (pending, deployment) = match timeout(PATIENCE, look(url)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => return vec![unreachable(url, kind, migrates, &error)],
        Err(_) => {
            return vec![Part::bad(
                DATABASE,
                format!("{kind} does not answer within {} s", PATIENCE.as_secs()),
                "check KLAVIYOD_DATABASE_URL and that the server runs",
            )];
        }
    };
    let mut parts = vec![match (pending, migrates) {
        (0, _) => Part::ok(
            DATABASE,
            format!("{kind} answers, its tables are up to date"),
        ),
        (pending, true) => Part::warn(
            DATABASE,
            format!("{kind} lacks {pending} migrations of this version"),
            "`klaviyod run` applies them at its start",
        ),
        (pending, false) => Part::bad(
            DATABASE,
            format!("{kind} lacks {pending} migrations of this version"),
            "run `klaviyod migrate`: `run` refuses to start before, because database.migrate is off",
        ),
    }];
    if let Some(ours) = deployment {
        let compared = timeout(PATIENCE, belongs(redis, accounts, &ours)).await;
        // That Redis is away is told elsewhere.
        parts.extend(compared.ok().and_then(Result::ok));
    }
    parts
}

/// How many migrations are pending, and the id of the deployment.
async fn look(url: &str) -> Result<(usize, Option<String>), Error> {
    let database = Database::look(url).await?;
    let seen = async {
        let migrations = database.migrations().await?;
        let pending = migrations.iter().filter(|it| it.state == State::Pending);
        Ok(match pending.count() {
            0 => (0, database.deployment().await?),
            pending => (pending, None),
        })
    };
    let seen = seen.await;
    database.close().await;
    seen
}

async fn belongs(redis: &Redis, accounts: &[Keys], ours: &str) -> RedisResult<Part> {
    let name = "database of this redis";
    let mut connection = redis.try_connect().await?;
    for keys in accounts {
        let registered = registered_deployment(&mut connection, keys).await?;
        if let Some(registered) = registered.filter(|registered| registered != ours) {
            return Ok(Part::bad(
                name,
                format!("Redis belongs to the database {registered}, and this one is {ours}"),
                "give every daemon the same KLAVIYOD_DATABASE_URL, or, if the old database is lost, run `klaviyod migrate --adopt`",
            ));
        }
    }
    Ok(Part::ok(name, "they belong together"))
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

fn unreachable(url: &str, kind: &str, migrates: bool, error: &Error) -> Part {
    // The cause may be an address, but never a password: only its kind is told.
    let file = Database::file(url).filter(|_| error.is_unreachable());
    if let Some(file) = file {
        return no_file(&file, migrates);
    }
    Part::bad(
        DATABASE,
        format!("{kind} cannot be asked: {error}"),
        "check KLAVIYOD_DATABASE_URL, that the server runs, and that the user may read",
    )
}

/// A `SQLite` file that could not be opened: only one that is not there yet is no fault.
fn no_file(file: &Path, migrates: bool) -> Part {
    let folder = file.parent().filter(|it| *it != Path::new(""));
    if file.try_exists().unwrap_or(true) {
        return Part::bad(
            DATABASE,
            "the SQLite file at KLAVIYOD_DATABASE_URL cannot be opened, or is no database",
            "check its rights, put back a copy of it, or move it away and run `klaviyod migrate --adopt`, which creates a new one",
        );
    }
    if !folder.unwrap_or(Path::new(".")).is_dir() {
        return Part::bad(
            DATABASE,
            "the folder of the SQLite file at KLAVIYOD_DATABASE_URL does not exist",
            "create the folder, or correct the address",
        );
    }
    let reason = "there is no SQLite file yet at KLAVIYOD_DATABASE_URL";
    if migrates {
        Part::warn(
            DATABASE,
            reason,
            "before the first start that is normal: `klaviyod run` creates it",
        )
    } else {
        Part::bad(
            DATABASE,
            reason,
            "run `klaviyod migrate`, which creates it: `run` does not, because database.migrate is off",
        )
    }
}
