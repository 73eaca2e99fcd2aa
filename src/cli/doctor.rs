//! `doctor`: looks at everything the daemon needs and says what to do. It changes nothing and never waits long.
//!
//! Exit code 0 when nothing is bad, warnings included; 1 when something is, also when Redis cannot be reached, for
//! then the other checks are told all the same.

use super::{Global, output};
use crate::config::{Account, Config, Need};
use crate::edge;
use crate::queue::Redis;
use crate::services::health::{
    Part, Report, State, doctor_database, doctor_redis, key_is_missing, revision, scopes,
};
use futures::future::join_all;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use output::Output;
use secrecy::ExposeSecret;
use std::process::ExitCode;

pub(super) async fn run(global: &Global) -> anyhow::Result<ExitCode> {
    let config = global.load(Need::Redis)?;
    let redis = Redis::at(config.redis_url.expose_secret())?;
    // All at once: one that does not answer delays nobody.
    let accounts = join_all(config.accounts.iter().map(account));
    let keys: Vec<_> = config.accounts.iter().map(|it| it.keys.clone()).collect();
    let (url, migrates) = (&config.database_url, config.database_migrates);
    let (of_redis, database, accounts) = tokio::join!(
        doctor_redis(&redis, edge::strictness(config.environment)),
        doctor_database(url, migrates, &redis, &keys),
        accounts,
    );
    let mut parts = vec![configuration(&config)];
    parts.extend(of_redis);
    parts.extend(database);
    parts.extend(accounts.into_iter().flatten());
    let report = Report::of(parts);
    match Output::or_fitting(global.output) {
        Output::Json => output::json(&report)?,
        Output::Table => table(&report)?,
    }
    Ok(match report.status {
        State::Ok | State::Warn => ExitCode::SUCCESS,
        State::Bad => ExitCode::FAILURE,
    })
}

/// Its mistakes have ended the command before.
fn configuration(config: &Config) -> Part {
    let accounts: Vec<&str> = config.accounts.iter().map(|it| it.keys.account()).collect();
    let reason = format!(
        "understood; environment {}, accounts {}",
        config.environment,
        accounts.join(", ")
    );
    Part::ok("configuration", reason)
}

async fn account(account: &Account) -> Vec<Part> {
    let klaviyo = &account.klaviyo;
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let mut parts = vec![revision(&klaviyo.revision, today)];
    if klaviyo.private_key.is_none() {
        parts.push(key_is_missing());
    } else {
        match edge::ask_klaviyo(klaviyo).await {
            Ok(asked) => parts.extend(asked),
            Err(error) => parts.push(Part::bad(
                "klaviyo",
                format!("{error:#}"),
                "check the settings of this account with `klaviyod config show`",
            )),
        }
        parts.push(scopes());
    }
    let name = account.keys.account();
    parts.into_iter().map(|part| part.of(name)).collect()
}

fn table(report: &Report) -> anyhow::Result<()> {
    let rows = |part: &Part| {
        let name = match &part.account {
            Some(account) => format!("{} ({account})", part.name),
            None => part.name.clone(),
        };
        let mut rows = vec![vec![
            part.state.as_str().to_owned(),
            name,
            part.reason.clone(),
        ]];
        let advice = part.what_to_do.iter();
        rows.extend(advice.map(|it| vec![String::new(), String::new(), format!("-> {it}")]));
        rows
    };
    let rows: Vec<Vec<String>> = report.parts.iter().flat_map(rows).collect();
    output::table(&["STATE", "PART", "REASON AND WHAT TO DO"], &rows)
}
